"""The leaderboard for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from src.sweeps.ranking import Estimate, Ranking, Setting, fields_of

_COLUMNS = ("", "validation", "test", "CPU s", "p", "seeds")


def summary(ranking: Ranking) -> str:
    """Returns the leaderboard as lines."""
    return "\n".join([headline(ranking), "", *_table(ranking), "", *_notes(ranking), *_incomplete(ranking)]) + "\n"


def headline(ranking: Ranking) -> str:
    """Returns what was trained, in one line."""
    points = ranking.sweep.points
    statuses = Counter(point.outcome.status for point in points)
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))
    size = f"{_counted(len(points), 'point')} ({counts}), {_counted(len(ranking.settings), 'setting')}"
    return f"{ranking.sweep.label}: {size}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def show(estimate: Estimate | None) -> str:
    """Formats a mean with its interval."""
    if estimate is None:
        return "-"
    return f"{estimate.mean:.4f}" + ("" if estimate.half_width is None else f" ±{estimate.half_width:.4f}")


def p_text(ranking: Ranking, first: Setting, second: Setting) -> str:
    """Formats the p value of two settings; a dash where they are not compared."""
    if first is second or first not in ranking.compared or second not in ranking.compared:
        return "-"
    value = ranking.p_values[ranking.compared.index(first), ranking.compared.index(second)]
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def winner_sentence(ranking: Ranking) -> str:
    """Says which point is the best, or why none is."""
    winner, best = ranking.winner, ranking.best_point
    if winner is None or best is None:
        return "No setting has scores of all its seeds, so none is the best."
    return (
        f"Best: {winner.name}, whose seed {best.seed} is {ranking.sweep.name}.best: {ranking.score} "
        f"{best.outcome.test[ranking.score]:.4f} on test rows."
    )


def columns(ranking: Ranking, setting: Setting) -> list[str]:
    """Returns a setting's figures: validation, test, CPU seconds, p value against the winner, seeds."""
    cost = setting.cpu_seconds
    return [
        show(ranking.validation(setting)),
        show(ranking.test(setting)),
        "-" if cost is None else f"{cost:.1f}" + "*" * (setting in ranking.pareto),
        "-" if ranking.winner is None else p_text(ranking, setting, ranking.winner),
        f"{len(setting.complete)}/{len(setting.points)}",
    ]


def _table(ranking: Ranking) -> Iterator[str]:
    fields = fields_of(ranking.settings)
    rows: list[Sequence[str]] = [(*_COLUMNS, *fields)]
    place = 0
    for setting in ranking.settings:
        place += setting.is_whole
        rows.append((str(place) if setting.is_whole else "-", *columns(ranking, setting), *setting.values.values()))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _notes(ranking: Ranking) -> list[str]:
    """Returns what the columns mean."""
    direction = "lower" if ranking.is_lower_better else "higher"
    lines = [
        winner_sentence(ranking),
        f"validation, test: {ranking.score} ({direction} is better), mean over the seeds with its 95 % interval; "
        "ranked by validation.",
        "CPU s: of one training, where it ran; *: on the Pareto line, no cheaper setting is as good.",
    ]
    if ranking.compared:
        pairs = len(ranking.compared) * (len(ranking.compared) - 1) // 2
        lines.append(f"p: against the best, on test rows; t test paired by seed, Holm's correction for {pairs} pairs.")
    else:
        lines.append("p: needs two settings with two seeds or more.")
    return lines


def _incomplete(ranking: Ranking) -> list[str]:
    return [f"{point.outcome.status}  {point.label}: {point.outcome.message}" for point in ranking.incomplete]
