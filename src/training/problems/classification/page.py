"""What the report shows of a classifier: accuracies, the confusion matrix, each class, the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.training.charts.loss import loss_chart
from src.training.charts.shares import Share, before_and_after
from src.training.charts.text import cut_text
from src.training.evaluation.result import FinishedRun
from src.training.problems.classification import charts
from src.training.problems.classification.metrics import ClassMetrics, class_scores, most_confused

TEMPLATE = Path(__file__).with_name("classification.html.j2")
_MAX_MISTAKES = 20
# A larger matrix is no picture any more: the most confused pairs are listed instead.
_MAX_MATRIX_CLASSES = 20
_MAX_PAIRS = 20
_MAX_CLASSES = 50


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row that the trained model gets wrong.

    Attributes:
        pair: its second text, if it has one.
        confidence: the model's probability of the wrong class.
    """

    text: str
    pair: str | None
    true: str
    predicted: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the confusion matrix and its share of the row."""

    rows: int
    share: float
    is_hit: bool


def page_view(run: FinishedRun) -> dict[str, Any]:
    """Returns what the template is filled with, beside what every page has."""
    before, after = run.before.metrics, run.after.metrics
    assert isinstance(before, ClassMetrics) and isinstance(after, ClassMetrics)
    wrong = run.after.predicted != np.array(run.test.labels)
    return {
        "interval_chart": before_and_after(
            "Accuracy",
            before=Share(before.accuracy, *before.accuracy_ci95),
            after=Share(after.accuracy, *after.accuracy_ci95),
        ),
        "curves": [
            loss_chart(run.events, split=run.validation["split"]),
            charts.accuracy_chart(
                run.events,
                split=run.validation["split"],
                rows=run.validation["rows"],
                kept_epoch=run.kept_epoch,
            ),
        ],
        "matrix": _matrix(after),
        "confused": most_confused(after, max_pairs=_MAX_PAIRS),
        "classes": _classes(after),
        "mistakes": confident_mistakes(run, class_names=after.labels),
        "mistake_count": int(wrong.sum()),
    }


def confident_mistakes(run: FinishedRun, *, class_names: Sequence[str]) -> tuple[Mistake, ...]:
    """Returns the wrongly predicted examples of the highest confidence, the highest first."""
    test, true = run.test, run.test.class_indices
    wrong = np.flatnonzero(run.after.predicted != np.array(true))
    surest = wrong[np.argsort(-run.after.confidence[wrong], kind="stable")][:_MAX_MISTAKES]
    return tuple(
        Mistake(
            text=cut_text(test.texts[row]),
            pair=None if test.text_pairs is None else cut_text(test.text_pairs[row]),
            true=class_names[true[row]],
            predicted=class_names[int(run.after.predicted[row])],
            confidence=float(run.after.confidence[row]),
        )
        for row in surest
    )


def _matrix(metrics: ClassMetrics) -> list[tuple[str, int, list[Cell]]] | None:
    """Returns (class, its rows, cells) for each class, or None where there are too many."""
    if len(metrics.labels) > _MAX_MATRIX_CLASSES:
        return None
    matrix = []
    for at, (name, counts) in enumerate(zip(metrics.labels, metrics.confusion_matrix, strict=True)):
        total = sum(counts)
        cells = [
            Cell(rows=count, share=count / max(1, total), is_hit=column == at) for column, count in enumerate(counts)
        ]
        matrix.append((name, total, cells))
    return matrix


def _classes(metrics: ClassMetrics) -> dict[str, Any]:
    """Returns the scores of all classes, or of the worst of many, and how many there are."""
    scores = class_scores(metrics)
    shown = scores if len(scores) <= _MAX_CLASSES else sorted(scores, key=lambda score: score.f1)[:_MAX_CLASSES]
    return {"shown": shown, "all": len(scores)}
