"""The scoring loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.training.data.batches import EncodedExamples, scoring_batches
from src.training.evaluation.class_metrics import Metrics, score
from src.training.evaluation.value_metrics import AnyMetrics, score_values
from src.training.model.objective import PLAIN_CLASSIFICATION, Objective
from src.training.recipes.recipe import REGRESSION


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


def evaluate(
    model: Any,
    rows: EncodedExamples,
    *,
    split: str,
    class_names: Sequence[str],
    batch_size: int,
    objective: Objective = PLAIN_CLASSIFICATION,
) -> Scored:
    """Scores a model on rows. Leaves the model in evaluation mode.

    Args:
        model: a classifier of transformers.
        rows: what to score it on.
        split: name of the rows.
        class_names: names by index; none in a regression.
        batch_size: rows at once.
        objective: what the model was, or is to be, trained for.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = np.empty((len(rows), model.config.num_labels), np.float32)
    with torch.inference_mode():
        for chosen in scoring_batches(rows.lengths, batch_size=batch_size):
            batch = {name: values.to(device) for name, values in rows.batch(chosen).items() if name != "labels"}
            logits[chosen] = model(**batch).logits.float().cpu().numpy()
    return score_logits(logits, rows, split=split, class_names=class_names, objective=objective)


def score_logits(
    logits: np.ndarray, rows: EncodedExamples, *, split: str, class_names: Sequence[str], objective: Objective
) -> Scored:
    """Scores what a model said of rows.

    The loss is the objective's, with its class weights: so the losses of train and scored rows can be compared. All
    other scores count every row the same.

    Args:
        logits: float32 [rows, classes], or [rows, 1] of a regression.
        rows: with the true labels.
        split: name of the rows.
        class_names: names by index; none in a regression.
        objective: what the model was, or is to be, trained for.
    """
    said, labels = torch.tensor(logits), torch.from_numpy(rows.labels)
    loss = float(objective.loss_sum(said, labels)) / objective.mass(labels)
    if objective.kind == REGRESSION:
        predicted, confidence = said[:, 0].numpy(), np.ones(len(rows), np.float32)
        values = score_values(split=split, loss=loss, predicted=predicted, true=rows.labels)
        return Scored(metrics=values, predicted=predicted, confidence=confidence)
    best, classes = said.softmax(dim=-1).max(dim=-1)
    metrics = score(split=split, loss=loss, predicted=classes.numpy(), true=rows.labels, class_names=class_names)
    return Scored(metrics=metrics, predicted=classes.numpy(), confidence=best.numpy())
