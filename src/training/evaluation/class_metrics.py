"""What a model is worth: counts, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Scores on one split. Precision, recall and F1 are means over the classes (macro)."""

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
    def in_brief(self) -> str:
        """The scores that a line about an epoch tells."""
        return f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f}"

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as metrics.json holds them."""
        return dataclasses.asdict(self)

    def as_event(self) -> dict[str, Any]:
        """Returns what events.jsonl tells of an epoch."""
        return {"accuracy": self.accuracy, "loss": self.loss}


def score(*, split: str, loss: float, predicted: np.ndarray, true: np.ndarray, class_names: Sequence[str]) -> Metrics:
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
    return Metrics(
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


def wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share: Wilson's (1927), which holds for few rows and near 0 and 1."""
    from scipy.stats import binomtest

    interval = binomtest(hits, rows).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
