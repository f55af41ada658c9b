"""The leaderboard as a page: it needs no network and runs no script."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from src.sweeps.ranking import Ranking, Setting, fields_of
from src.sweeps.summary import columns, headline, p_text, winner_sentence
from src.training.charts.tradeoff import Priced, tradeoff_chart
from src.training.report.page import page_environment

_TEMPLATE = Path(__file__).resolve().with_name("leaderboard.html.j2")
# What fits side by side.
_MAX_PAIRS_SHOWN = 9


def leaderboard_page(ranking: Ranking) -> str:
    """Returns the page; the same text for the same outcomes and costs."""
    shown = ranking.compared[:_MAX_PAIRS_SHOWN]
    return (
        page_environment(_TEMPLATE.parent)
        .get_template(_TEMPLATE.name)
        .render(
            name=ranking.sweep.name,
            headline=headline(ranking),
            winner=winner_sentence(ranking),
            ranking=ranking,
            fields=fields_of(ranking.settings),
            rows=[(setting, columns(ranking, setting)) for setting in ranking.settings],
            chart=tradeoff_chart(
                list(chain.from_iterable(_priced(ranking, setting) for setting in ranking.whole)),
                line=[setting.name for setting in ranking.pareto],
                kept="" if ranking.winner is None else ranking.winner.name,
                score=ranking.score,
                cost="CPU seconds",
            ),
            pairs=[(setting, [p_text(ranking, setting, other) for other in shown]) for setting in shown],
            compared=len(ranking.compared),
        )
    )


def _priced(ranking: Ranking, setting: Setting) -> list[Priced]:
    estimate, cost = ranking.validation(setting), setting.cpu_seconds
    if estimate is None or cost is None:
        return []
    mean, reach = estimate.mean, estimate.half_width or 0.0
    # Of few seeds an interval is wider than a score can be: errors have no upper bound, the others end at 1.
    high = mean + reach if ranking.is_lower_better else min(mean + reach, max(mean, 1.0))
    return [Priced(setting.name, cost, mean, max(mean - reach, min(mean, 0.0)), high)]
