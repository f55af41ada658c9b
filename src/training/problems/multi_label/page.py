"""What the report shows of a multi-label classifier: scores before and after, each label, confident mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.training.charts.loss import loss_chart
from src.training.charts.shares import Share, before_and_after
from src.training.charts.text import cut_text
from src.training.evaluation.result import FinishedRun
from src.training.problems.classification.charts import accuracy_chart
from src.training.problems.multi_label.metrics import MultiLabelMetrics

TEMPLATE = Path(__file__).with_name("multi_label.html.j2")
_MAX_MISTAKES = 20
_MAX_LABELS = 50
SCORES = (
    ("f1_micro", "F1, micro"),
    ("precision_micro", "precision, micro"),
    ("recall_micro", "recall, micro"),
    ("f1_macro", "F1, macro"),
    ("subset_accuracy", "subset accuracy"),
    ("hamming_loss", "wrong decisions (Hamming loss)"),
)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A label that the trained model gets wrong for a row.

    Attributes:
        pair: the second text of the row, if it has one.
        label: its name.
        is_missing: whether the row has it and the model does not say so.
        confidence: the model's probability of its answer.
    """

    text: str
    pair: str | None
    label: str
    is_missing: bool
    confidence: float


def page_view(run: FinishedRun) -> dict[str, Any]:
    """Returns what the template is filled with, beside what every page has."""
    before, after = run.before.metrics, run.after.metrics
    assert isinstance(before, MultiLabelMetrics) and isinstance(after, MultiLabelMetrics)
    scores = after.label_scores
    shown = scores if len(scores) <= _MAX_LABELS else sorted(scores, key=lambda score: score.f1)[:_MAX_LABELS]
    return {
        "interval_chart": before_and_after(
            "Subset accuracy",
            before=Share(before.subset_accuracy, *before.subset_accuracy_ci95),
            after=Share(after.subset_accuracy, *after.subset_accuracy_ci95),
        ),
        "curves": [
            loss_chart(run.events, split=run.validation["split"]),
            accuracy_chart(
                run.events,
                split=run.validation["split"],
                rows=run.validation["rows"],
                kept_epoch=run.kept_epoch,
                score="subset_accuracy",
            ),
        ],
        "scores": SCORES,
        "shown": shown,
        "mistakes": confident_mistakes(run, names=after.labels),
        "mistake_count": int((run.after.predicted != np.array(run.test.labels)).sum()),
    }


def confident_mistakes(run: FinishedRun, *, names: tuple[str, ...]) -> tuple[Mistake, ...]:
    """Returns the wrong decisions of the highest confidence, the highest first."""
    true = np.array(run.test.labels)
    rows, labels = np.nonzero(run.after.predicted != true)
    confidence = run.after.confidence[rows, labels]
    return tuple(
        Mistake(
            text=cut_text(run.test.texts[rows[at]]),
            pair=None if run.test.text_pairs is None else cut_text(run.test.text_pairs[rows[at]]),
            label=names[labels[at]],
            is_missing=bool(true[rows[at], labels[at]]),
            confidence=float(confidence[at]),
        )
        for at in np.argsort(-confidence, kind="stable")[:_MAX_MISTAKES]
    )
