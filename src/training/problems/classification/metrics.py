"""Scores of a classifier: the confusion matrix and what follows from it, over all classes and for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.cli.formats import number_or_dash
from src.training.evaluation.intervals import wilson_interval
from src.training.evaluation.problem import CardScore

# No terminal shows a longer row in one line; metrics.json has it whole.
_MAX_PRINTED_CLASSES, _NAME_WIDTH = 12, 16
# Most cells of a larger matrix are 0: of 1,000 classes it would take 11 MB.
_MAX_WRITTEN_CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """See `Metrics`. Precision, recall and F1 are means over the classes (macro)."""

    split: str
    examples: int
    loss: float
    accuracy: float
    accuracy_ci95: tuple[float, float]
    precision: float
    recall: float
    f1: float
    confusion_matrix: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]

    @property
    def brief(self) -> str:
        return f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f}"

    def lines(self) -> list[str]:
        low, high = self.accuracy_ci95
        return [
            f"Examples: {self.examples:,} ({self.split})",
            f"Accuracy: {self.accuracy:.4f} ({self.accuracy:.2%}; 95% interval {low:.1%} to {high:.1%})",
            f"Loss: {self.loss:.4f}",
            f"Precision: {self.precision:.4f}  Recall: {self.recall:.4f}  F1: {self.f1:.4f}  (means over the classes)",
            *self._matrix_lines(),
        ]

    def _matrix_lines(self) -> list[str]:
        names = [name[:_NAME_WIDTH] for name in self.labels]
        if len(names) > _MAX_PRINTED_CLASSES:
            return [f"Confusion matrix: {len(names)} classes, see metrics.json"]
        width = max(8, *map(len, names)) + 2
        rows = zip(names, self.confusion_matrix, strict=True)
        return [
            "Confusion matrix (rows true, columns predicted):",
            " " * width + "".join(f"{name:>{width}}" for name in names),
            *(f"{name:<{width}}" + "".join(f"{count:>{width},}" for count in counts) for name, counts in rows),
        ]

    def card_scores(self) -> list[CardScore]:
        return [
            CardScore("accuracy", f"{self.accuracy:.4f}", "accuracy", self.accuracy),
            CardScore("95 % interval", "{:.4f} to {:.4f}".format(*self.accuracy_ci95)),
            CardScore("F1, macro", f"{self.f1:.4f}", "f1", self.f1),
            CardScore("loss", number_or_dash(self.loss)),
        ]

    def as_json(self) -> dict[str, Any]:
        """Of many classes, `confusions` has the rows of each true and predicted class in place of the matrix."""
        fields = dataclasses.asdict(self)
        if len(self.labels) <= _MAX_WRITTEN_CLASSES:
            return fields
        return {name: value for name, value in fields.items() if name != "confusion_matrix"} | {
            "confusions": {
                true: {predicted: rows for predicted, rows in zip(self.labels, counts, strict=True) if rows}
                for true, counts in zip(self.labels, self.confusion_matrix, strict=True)
                if any(counts)
            }
        }

    def as_event(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "loss": self.loss}


def score_classes(
    *, split: str, loss: float, predicted: np.ndarray, true: np.ndarray, class_names: Sequence[str]
) -> ClassMetrics:
    """Scores predictions.

    Args:
        split: name of the rows.
        loss: mean cross entropy, in nats, each row times its class's weight where there are weights.
        predicted: class indices, int64 [rows].
        true: class indices, int64 [rows].
        class_names: names by index.

    Returns:
        The scores.
    """
    classes = len(class_names)
    counts = np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    hits = np.diag(counts).astype(float)
    precision = _ratio(hits, counts.sum(axis=0))
    recall = _ratio(hits, counts.sum(axis=1))
    # A class that no row has counts for nothing: scored as 0 it would pull the means down.
    there = counts.sum(axis=1) > 0
    return ClassMetrics(
        split=split,
        examples=int(counts.sum()),
        loss=loss,
        accuracy=float(hits.sum() / counts.sum()),
        accuracy_ci95=wilson_interval(int(hits.sum()), int(counts.sum())),
        precision=float(precision[there].mean()),
        recall=float(recall[there].mean()),
        f1=float(_ratio(2 * precision * recall, precision + recall)[there].mean()),
        confusion_matrix=tuple(tuple(int(count) for count in row) for row in counts),
        labels=tuple(class_names),
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: how many examples are of it, and its scores from 0 to 1."""

    name: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Examples of one class that are predicted as another, and their share of the class."""

    true: str
    predicted: str
    rows: int
    share: float


def class_scores(metrics: ClassMetrics) -> tuple[ClassScore, ...]:
    """Returns each class's scores, in the order of the matrix; 0 of 0 counts as 0."""
    counts = np.array(metrics.confusion_matrix)
    scores = []
    for name, hits, true, predicted in zip(
        metrics.labels, np.diag(counts), counts.sum(axis=1), counts.sum(axis=0), strict=True
    ):
        scores.append(
            ClassScore(
                name=name,
                rows=int(true),
                precision=float(hits / max(1, predicted)),
                recall=float(hits / max(1, true)),
                f1=float(2 * hits / max(1, true + predicted)),
            )
        )
    return tuple(scores)


def most_confused(metrics: ClassMetrics, *, max_pairs: int) -> tuple[Confusion, ...]:
    """Returns the pairs of classes with most mistakes, at most so many of them."""
    counts = np.array(metrics.confusion_matrix)
    rows = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    # Stable: pairs with as many mistakes stay in the order of the matrix.
    order = np.argsort(-counts, axis=None, kind="stable")[:max_pairs]
    pairs = [divmod(int(at), len(counts)) for at in order if counts.flat[at]]
    return tuple(
        Confusion(
            true=metrics.labels[true],
            predicted=metrics.labels[predicted],
            rows=int(counts[true, predicted]),
            share=float(counts[true, predicted] / rows[true]),
        )
        for true, predicted in pairs
    )
