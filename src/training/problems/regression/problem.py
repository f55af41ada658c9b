"""Regression: a number for each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.training.evaluation.problem import Scored, classifier_example
from src.training.evaluation.result import FinishedRun
from src.training.evaluation.wilcoxon import Wilcoxon, compare_values
from src.training.problems.regression.metrics import ValueMetrics, score_values
from src.training.problems.regression.page import TEMPLATE, page_view

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Regression:
    """See `Problem`: the loss is the squared error; labels are values, float32 [examples].

    Attributes:
        label_name: what the number is, as its column is named.
    """

    label_name: str

    config_problem_type = "regression"
    page_template = TEMPLATE
    pipeline_tag = "text-classification"

    @property
    def output_names(self) -> tuple[str, ...]:
        return (self.label_name,)

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        # Without the squeeze, [examples, 1] against [examples] would be a difference of every pair of examples.
        return functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="sum")

    def mass(self, labels: torch.Tensor) -> float:
        return float(len(labels))

    def score(self, logits: np.ndarray, labels: np.ndarray, *, split: str) -> Scored:
        import torch

        outputs, true = torch.tensor(logits), torch.from_numpy(labels)
        loss = float(self.loss_sum(outputs, true)) / self.mass(true)
        predicted = outputs[:, 0].numpy()
        metrics = score_values(split=split, loss=loss, predicted=predicted, true=labels)
        return Scored(metrics=metrics, predicted=predicted, confidence=np.ones(len(labels), np.float32))

    def merit(self, metrics: ValueMetrics) -> tuple[float, ...]:
        return (-metrics.loss,)

    def compare(self, *, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> Wilcoxon:
        return compare_values(before=before, after=after, true=true)

    def settings_lines(self) -> list[str]:
        return []

    def answer(self, logits: torch.Tensor) -> str:
        return f"Predicted value: {float(logits):.4f}"

    def describe_model(self, *, pairs: bool) -> str:
        """Returns, say, `A regression model that predicts a number (stars) for texts`."""
        return f"A regression model that predicts a number ({self.label_name}) for {'pairs of ' if pairs else ''}texts"

    def example(self, *, pairs: bool) -> str:
        return classifier_example(pairs=pairs)

    def page_view(self, run: FinishedRun) -> dict[str, Any]:
        return page_view(run)
