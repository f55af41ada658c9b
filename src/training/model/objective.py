"""What training minimises: the cross entropy of classes, which may weigh unlike, or the squared error of values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from src.training.recipes.recipe import CLASSIFICATION, REGRESSION


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What training minimises, in two sums: their quotient over any set of rows is the rows' loss.

    Apart, because a quotient cannot be added up: the sums of batches, or of processes, can.

    Attributes:
        kind: "classification" (labels are class indices, int64 [rows]) or "regression" (values, float32 [rows]).
        class_weights: what a row of each class counts; None: all the same.
    """

    kind: str
    class_weights: tuple[float, ...] | None = None

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the rows' losses, each times the row's weight: a scalar to go back from.

        Args:
            logits: [rows, classes], or [rows, 1] of a regression.
            labels: [rows].
        """
        if self.kind == REGRESSION:
            # Without the squeeze, [rows, 1] against [rows] would be a difference of every pair of rows.
            return functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="sum")
        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        return functional.cross_entropy(logits, labels, weight=weights, reduction="sum")

    def mass(self, labels: torch.Tensor) -> float:
        """Returns the sum of the rows' weights; without class weights, their number."""
        if self.class_weights is None:
            return float(len(labels))
        return float(torch.tensor(self.class_weights, dtype=torch.float64)[labels.cpu()].sum())


PLAIN_CLASSIFICATION = Objective(kind=CLASSIFICATION)
