"""Multi-label classification: any number of labels for each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.training.evaluation.mcnemar import McNemar, compare_right
from src.training.evaluation.problem import Scored, classifier_example
from src.training.evaluation.result import FinishedRun
from src.training.problems.multi_label.metrics import MultiLabelMetrics, score_labels
from src.training.problems.multi_label.page import TEMPLATE, page_view

if TYPE_CHECKING:
    import torch

_MAX_NAMED_LABELS = 10


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """See `Problem`: the loss is the binary cross entropy, in nats, a mean over the labels.

    Labels are 1 and 0, float32 [examples, labels]; so are the predictions, and confidence is their probability.

    Attributes:
        label_names: by index.
        threshold: probability from which on a label is predicted.
    """

    label_names: tuple[str, ...]
    threshold: float = 0.5

    config_problem_type = "multi_label_classification"
    page_template = TEMPLATE
    pipeline_tag = "text-classification"

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.label_names

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        losses = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
        return losses / len(self.label_names)

    def mass(self, labels: torch.Tensor) -> float:
        return float(len(labels))

    def score(self, logits: np.ndarray, labels: np.ndarray, *, split: str) -> Scored:
        import torch

        outputs, true = torch.tensor(logits), torch.from_numpy(labels)
        loss = float(self.loss_sum(outputs, true)) / self.mass(true)
        probability = outputs.sigmoid().numpy()
        predicted = probability.astype(np.float64) >= self.threshold
        metrics = score_labels(split=split, loss=loss, predicted=predicted, true=labels > 0, names=self.label_names)
        return Scored(
            metrics=metrics,
            predicted=predicted.astype(np.float32),
            confidence=np.maximum(probability, 1 - probability),
        )

    def merit(self, metrics: MultiLabelMetrics) -> tuple[float, ...]:
        """Returns (F1 over all decisions, negative loss)."""
        return metrics.f1_micro, -metrics.loss

    def compare(self, *, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> McNemar:
        """Compares the rows all of whose labels are right."""
        return compare_right(before=(before == true).all(axis=1), after=(after == true).all(axis=1))

    def settings_lines(self) -> list[str]:
        return []

    def answer(self, logits: torch.Tensor) -> str:
        scores = dict(zip(self.label_names, logits.sigmoid().tolist(), strict=True))
        chosen = [f"{name} ({score:.1%})" for name, score in scores.items() if score >= self.threshold]
        if chosen:
            return f"Predicted labels: {', '.join(chosen)}"
        name = max(scores, key=scores.__getitem__)
        return f"Predicted labels: none (the highest is {name}, {scores[name]:.1%})"

    def describe_model(self, *, pairs: bool) -> str:
        """Returns, say, `A multi-label classifier of texts (late, rude)`."""
        names = ", ".join(self.label_names[:_MAX_NAMED_LABELS])
        names += " …" if len(self.label_names) > _MAX_NAMED_LABELS else ""
        return f"A multi-label classifier of {'pairs of ' if pairs else ''}texts ({names})"

    def example(self, *, pairs: bool) -> str:
        # Without it the pipeline names the highest label alone.
        return f"{classifier_example(pairs=pairs)}, top_k=None"

    def page_view(self, run: FinishedRun) -> dict[str, Any]:
        return page_view(run)
