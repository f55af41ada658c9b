"""Scores of many labels a row: over all decisions (micro), over the labels (macro), of whole rows, of each label."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.cli.formats import number_or_dash
from src.training.evaluation.intervals import wilson_interval
from src.training.evaluation.problem import CardScore

# No terminal shows more lines at once; metrics.json has all.
_MAX_PRINTED, _NAME_WIDTH = 20, 24


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label: how many rows have it, how many are predicted to, and its scores from 0 to 1."""

    name: str
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class MultiLabelMetrics:
    """See `Metrics`.

    Attributes:
        subset_accuracy: share of the rows all of whose labels are right.
        subset_accuracy_ci95: its interval.
        hamming_loss: share of wrong decisions, one for each row and label.
        precision_micro: over all decisions, as recall_micro and f1_micro.
        precision_macro: mean over the labels that some row has, as recall_macro and f1_macro.
        labels: names by index.
        label_scores: of each label, in the same order.
    """

    split: str
    examples: int
    loss: float
    subset_accuracy: float
    subset_accuracy_ci95: tuple[float, float]
    hamming_loss: float
    precision_micro: float
    recall_micro: float
    f1_micro: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    labels: tuple[str, ...]
    label_scores: tuple[LabelScore, ...]

    @property
    def brief(self) -> str:
        return f"F1 (micro) {self.f1_micro:.4f}, loss {self.loss:.4f}"

    def lines(self) -> list[str]:
        low, high = self.subset_accuracy_ci95
        return [
            f"Examples: {self.examples:,} ({self.split})",
            f"Loss: {self.loss:.4f}",
            *(
                f"Precision: {precision:.4f}  Recall: {recall:.4f}  F1: {f1:.4f}  ({what})"
                for precision, recall, f1, what in (
                    (self.precision_micro, self.recall_micro, self.f1_micro, "micro: over all decisions"),
                    (self.precision_macro, self.recall_macro, self.f1_macro, "macro: mean over the labels"),
                )
            ),
            f"Subset accuracy: {self.subset_accuracy:.4f} ({self.subset_accuracy:.2%} of the rows have all labels "
            f"right; 95% interval {low:.1%} to {high:.1%})  Hamming loss: {self.hamming_loss:.4f}",
            *self._label_lines(),
        ]

    def _label_lines(self) -> list[str]:
        if len(self.label_scores) > _MAX_PRINTED:
            return [f"Labels: {len(self.label_scores)}, see metrics.json"]
        names = [score.name[:_NAME_WIDTH] for score in self.label_scores]
        width = max(5, *map(len, names))
        return [
            f"{'Label':<{width}}    Rows  Precision  Recall      F1",
            *(
                f"{name:<{width}}  {score.rows:>6,}  {score.precision:>9.4f}  {score.recall:.4f}  {score.f1:.4f}"
                for name, score in zip(names, self.label_scores, strict=True)
            ),
        ]

    def card_scores(self) -> list[CardScore]:
        return [
            CardScore("F1, micro", f"{self.f1_micro:.4f}", "f1", self.f1_micro),
            CardScore("F1, macro", f"{self.f1_macro:.4f}"),
            CardScore("precision, micro", f"{self.precision_micro:.4f}", "precision", self.precision_micro),
            CardScore("recall, micro", f"{self.recall_micro:.4f}", "recall", self.recall_micro),
            CardScore("subset accuracy", f"{self.subset_accuracy:.4f}", "accuracy", self.subset_accuracy),
            CardScore("95 % interval", "{:.4f} to {:.4f}".format(*self.subset_accuracy_ci95)),
            CardScore("loss", number_or_dash(self.loss)),
        ]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def as_event(self) -> dict[str, Any]:
        return {
            "f1_micro": self.f1_micro,
            "f1_macro": self.f1_macro,
            "subset_accuracy": self.subset_accuracy,
            "loss": self.loss,
        }


def score_labels(
    *, split: str, loss: float, predicted: np.ndarray, true: np.ndarray, names: Sequence[str]
) -> MultiLabelMetrics:
    """Scores predictions.

    Args:
        split: name of the rows.
        loss: mean binary cross entropy, in nats.
        predicted: whether each label is predicted for each row, bool [rows, labels].
        true: whether the row has it, bool [rows, labels].
        names: of the labels, by index.

    Returns:
        The scores. 0 of 0 counts as 0.
    """
    hits, chosen, there = (predicted & true).sum(axis=0), predicted.sum(axis=0), true.sum(axis=0)
    precision, recall, f1 = _scores(hits, chosen, there)
    micro = [float(score[0]) for score in _scores(*(counts.sum(keepdims=True) for counts in (hits, chosen, there)))]
    # A label that no row has counts for nothing: scored as 0 it would pull the means down.
    scored = there > 0
    macro = [float(scores[scored].mean()) if scored.any() else 0.0 for scores in (precision, recall, f1)]
    right = int((predicted == true).all(axis=1).sum())
    return MultiLabelMetrics(
        split=split,
        examples=len(true),
        loss=loss,
        subset_accuracy=right / len(true),
        subset_accuracy_ci95=wilson_interval(right, len(true)),
        hamming_loss=float((predicted != true).mean()),
        precision_micro=micro[0],
        recall_micro=micro[1],
        f1_micro=micro[2],
        precision_macro=macro[0],
        recall_macro=macro[1],
        f1_macro=macro[2],
        labels=tuple(names),
        label_scores=tuple(
            LabelScore(
                name=name,
                rows=int(there[at]),
                predicted=int(chosen[at]),
                precision=float(precision[at]),
                recall=float(recall[at]),
                f1=float(f1[at]),
            )
            for at, name in enumerate(names)
        ),
    )


def _scores(hits: np.ndarray, chosen: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns precision, recall and F1, all float64 [labels]."""
    return hits / np.maximum(1, chosen), hits / np.maximum(1, there), 2 * hits / np.maximum(1, chosen + there)
