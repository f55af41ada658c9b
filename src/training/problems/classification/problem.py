"""Classification: one class for each example."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.training.evaluation.mcnemar import McNemar, compare_classes
from src.training.evaluation.problem import Scored, classifier_example
from src.training.evaluation.result import FinishedRun
from src.training.problems.classification.metrics import ClassMetrics, score_classes
from src.training.problems.classification.page import TEMPLATE, page_view

if TYPE_CHECKING:
    import torch

_MAX_NAMED_CLASSES = 10
_MAX_LISTED_WEIGHTS = 20


@dataclass(frozen=True, kw_only=True)
class Classification:
    """See `Problem`: the loss is the cross entropy, in nats; labels are class indices, int64 [examples].

    Attributes:
        class_names: by index.
        class_weights: weight of an example of each class in the loss, by index; None: all the same.
    """

    class_names: tuple[str, ...]
    class_weights: tuple[float, ...] | None = None

    config_problem_type = "single_label_classification"
    page_template = TEMPLATE
    pipeline_tag = "text-classification"

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.class_names

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        return functional.cross_entropy(logits, labels, weight=weights, reduction="sum")

    def mass(self, labels: torch.Tensor) -> float:
        if self.class_weights is None:
            return float(len(labels))
        import torch

        return float(torch.tensor(self.class_weights, dtype=torch.float64)[labels.cpu()].sum())

    def score(self, logits: np.ndarray, labels: np.ndarray, *, split: str) -> Scored:
        import torch

        outputs, true = torch.tensor(logits), torch.from_numpy(labels)
        loss = float(self.loss_sum(outputs, true)) / self.mass(true)
        confidence, classes = outputs.softmax(dim=-1).max(dim=-1)
        predicted = classes.numpy()
        metrics = score_classes(split=split, loss=loss, predicted=predicted, true=labels, class_names=self.class_names)
        return Scored(metrics=metrics, predicted=predicted, confidence=confidence.numpy())

    def merit(self, metrics: ClassMetrics) -> tuple[float, ...]:
        """Returns (accuracy, negative loss).

        With class weights an example counts in the accuracy as it does in the loss. Plain accuracy would keep the epoch
        that serves the common classes best, which is what the weights are there to prevent; with balanced weights it is
        the mean of the classes' recalls.
        """
        if self.class_weights is None:
            return metrics.accuracy, -metrics.loss
        weights = np.array(self.class_weights)
        counts = np.array(metrics.confusion_matrix)
        return float(weights @ np.diag(counts) / (weights @ counts.sum(axis=1))), -metrics.loss

    def compare(self, *, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> McNemar:
        return compare_classes(before=before, after=after, true=true)

    def settings_lines(self) -> list[str]:
        if self.class_weights is None:
            return []
        weights = (f"{name} {weight:.4g}" for name, weight in zip(self.class_names, self.class_weights, strict=True))
        return [f"Class weights: {', '.join(itertools.islice(weights, _MAX_LISTED_WEIGHTS))}"]

    def answer(self, logits: torch.Tensor) -> str:
        chosen = int(logits.argmax())
        return f"Predicted class: {self.class_names[chosen]} (probability {float(logits.softmax(dim=-1)[chosen]):.1%})"

    def describe_model(self, *, pairs: bool) -> str:
        """Returns, say, `A text classifier (negative, positive)`."""
        names = ", ".join(self.class_names[:_MAX_NAMED_CLASSES])
        names += " …" if len(self.class_names) > _MAX_NAMED_CLASSES else ""
        return f"A classifier of pairs of texts ({names})" if pairs else f"A text classifier ({names})"

    def example(self, *, pairs: bool) -> str:
        return classifier_example(pairs=pairs)

    def page_view(self, run: FinishedRun) -> dict[str, Any]:
        return page_view(run)
