"""The scoring loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.training.batching import Batch, EncodedRows, scoring_batches
from src.training.metrics import Metrics, score
from src.training.objective import PLAIN_CLASSIFICATION, Objective
from src.training.recipe import REGRESSION
from src.training.regression_metrics import AnyMetrics, score_values


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a model said of rows, and how good that was.

    Attributes:
        metrics: the scores.
        predicted: class indices, int64 [rows]; or the values of a regression, float32 [rows].
        confidence: softmax probability of the predicted class, float32 [rows]; 1 in a regression, which has none.
    """

    metrics: AnyMetrics
    predicted: np.ndarray
    confidence: np.ndarray

    @property
    def class_metrics(self) -> Metrics:
        """The scores of a classifier, which a regression has not."""
        assert isinstance(self.metrics, Metrics)
        return self.metrics


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch where the model is."""
    return {name: values.to(device) for name, values in batch.items()}


def evaluate(
    model: torch.nn.Module,
    rows: EncodedRows,
    *,
    split: str,
    class_names: Sequence[str],
    batch_size: int,
    objective: Objective = PLAIN_CLASSIFICATION,
    check: Callable[[], None] = lambda: None,
) -> Scored:
    """Scores a model on rows. Leaves the model in evaluation mode.

    The loss is the objective's, with its class weights: so the losses of train and scored rows can be compared. All
    other scores count every row the same.

    Args:
        model: a classifier of transformers.
        rows: what to score it on.
        split: name of the rows.
        class_names: names by index; none in a regression.
        batch_size: rows at once.
        objective: what the model was, or is to be, trained for.
        check: called before each batch; may raise to end the scoring.
    """
    model.eval()
    device = next(model.parameters()).device
    is_regression = objective.kind == REGRESSION
    predicted = torch.empty(len(rows), dtype=torch.float32 if is_regression else torch.int64)
    confidence = torch.ones(len(rows))
    losses = mass = 0.0
    with torch.inference_mode():
        for chosen in scoring_batches(rows.lengths, batch_size=batch_size):
            check()
            batch = on_device(rows.batch(chosen), device)
            labels = batch.pop("labels")
            logits = model(**batch).logits
            losses += float(objective.loss_sum(logits, labels))
            mass += objective.mass(labels)
            at = torch.from_numpy(chosen)
            if is_regression:
                predicted[at] = logits[:, 0].float().cpu()
                continue
            best = logits.argmax(dim=-1, keepdim=True)
            predicted[at] = best[:, 0].cpu()
            confidence[at] = logits.float().softmax(dim=-1).gather(1, best)[:, 0].cpu()
    said: dict[str, Any] = {"split": split, "predicted": predicted.numpy(), "true": rows.labels, "loss": losses / mass}
    metrics = score_values(**said) if is_regression else score(**said, class_names=class_names)
    return Scored(metrics=metrics, predicted=predicted.numpy(), confidence=confidence.numpy())
