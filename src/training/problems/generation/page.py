"""What the report shows of a language model: its answers before and after side by side, and its worst rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.training.charts.geometry import Chart
from src.training.charts.loss import loss_chart
from src.training.charts.shares import Share, before_and_after
from src.training.charts.text import cut_text
from src.training.data.conversations import Conversation, Conversations
from src.training.evaluation.problem import Answer
from src.training.evaluation.result import FinishedRun
from src.training.problems.generation.answers import judge
from src.training.problems.generation.metrics import TokenMetrics

TEMPLATE = Path(__file__).with_name("generation.html.j2")
_MAX_ANSWERS = 20
_MAX_WORST = 20


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """An answer, whether it is the reference, and whether it is cut off."""

    text: str
    exact: bool
    cut: bool


@dataclass(frozen=True, kw_only=True)
class AnsweredRow:
    """A row that was answered before and after training."""

    asked: str
    reference: str
    before: ShownAnswer
    after: ShownAnswer


@dataclass(frozen=True, kw_only=True)
class WorstRow:
    """A row with a high loss a token: what is asked and, as `pair`, the reference; or a text alone."""

    text: str
    pair: str | None
    before: float
    after: float


def page_view(run: FinishedRun) -> dict[str, Any]:
    """Returns what the template is filled with, beside what every page has."""
    before, after = run.before.metrics, run.after.metrics
    assert isinstance(before, TokenMetrics) and isinstance(after, TokenMetrics)
    rows: Any = run.test
    return {
        "interval_chart": _change(before, after),
        "curves": [loss_chart(run.events, split=run.validation["split"])],
        "answered": answered_rows(run, rows),
        "worst": worst_rows(run, rows),
    }


def _change(before: TokenMetrics, after: TokenMetrics) -> Chart:
    if before.answers is not None and after.answers is not None:
        sides = [
            Share(answers.exact_match.share, *answers.exact_match.ci95) for answers in (before.answers, after.answers)
        ]
        return before_and_after("Exact match", before=sides[0], after=sides[1])
    sides = [Share(metrics.token_accuracy, *metrics.token_accuracy_ci95) for metrics in (before, after)]
    return before_and_after("Token accuracy", before=sides[0], after=sides[1])


def answered_rows(run: FinishedRun, rows: Conversations) -> tuple[AnsweredRow, ...]:
    """Returns the first rows that were answered."""
    answers = {answer.row: answer for answer in run.after.answers}
    pairs = [(answer, answers[answer.row]) for answer in run.before.answers if answer.row in answers][:_MAX_ANSWERS]
    if not pairs:
        return ()
    asked = [rows.rows[answer.row] for answer, _ in pairs]
    references = [row.reference or "" for row in asked]
    before, after = (_shown([pair[side] for pair in pairs], references) for side in (0, 1))
    return tuple(
        AnsweredRow(asked=_asked(row), reference=cut_text(reference), before=first, after=second)
        for row, reference, first, second in zip(asked, references, before, after, strict=True)
    )


def _shown(answers: list[Answer], references: list[str]) -> list[ShownAnswer]:
    _, exact = judge(answers, references)
    return [
        ShownAnswer(text=cut_text(answer.text), exact=bool(right), cut=answer.cut)
        for answer, right in zip(answers, exact, strict=True)
    ]


def worst_rows(run: FinishedRun, rows: Conversations) -> tuple[WorstRow, ...]:
    """Returns the rows with the highest loss a token after training, the highest first; one that is no number is."""
    order = np.argsort(-np.nan_to_num(run.after.predicted, nan=np.inf), kind="stable")[:_MAX_WORST]
    return tuple(
        WorstRow(
            text=_asked(rows.rows[row]),
            pair=None if (reference := rows.rows[row].reference) is None else cut_text(reference),
            before=float(run.before.predicted[row]),
            after=float(run.after.predicted[row]),
        )
        for row in order
    )


def _asked(row: Conversation) -> str:
    """Returns what is asked, without a system prompt; of a text alone, the text."""
    turns = [turn for turn in row.asked or row.turns if turn.role != "system"]
    if len(turns) == 1:
        return cut_text(turns[0].content)
    return cut_text(" ".join(f"{turn.role}: {turn.content}" for turn in turns))
