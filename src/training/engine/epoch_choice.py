"""Which of two epochs is the better one, by the measure that fits what is trained for."""

from __future__ import annotations

import numpy as np

from src.training.evaluation.class_metrics import Metrics
from src.training.evaluation.value_metrics import AnyMetrics
from src.training.model.objective import REGRESSION, Objective


def merit(metrics: AnyMetrics, *, objective: Objective) -> tuple[float, float]:
    """Returns (accuracy, negative loss), of which the greater pair is the better epoch.

    With class weights a row counts in the accuracy as it does in the loss. Plain accuracy would keep the epoch that
    serves the common classes best, which is what the weights are there to prevent; with balanced weights it is the mean
    of the classes' recalls. A regression has no accuracy: it is 0, and the loss alone decides.
    """
    if not isinstance(metrics, Metrics):
        return 0.0, -metrics.loss
    if objective.class_weights is None:
        return metrics.accuracy, -metrics.loss
    weights = np.array(objective.class_weights)
    counts = np.array(metrics.confusion_matrix)
    return float(weights @ np.diag(counts) / (weights @ counts.sum(axis=1))), -metrics.loss


def gained(now: tuple[float, float], *, best: tuple[float, float], objective: Objective) -> float:
    """Returns by how much an epoch's merit is above the best one's: accuracy, or in a regression the loss."""
    at = 1 if objective.kind == REGRESSION else 0
    return now[at] - best[at]
