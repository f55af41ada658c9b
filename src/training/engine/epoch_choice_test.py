"""The better epoch: by accuracy, by accuracy as the classes weigh, or by loss."""

from __future__ import annotations

import numpy as np
import pytest

from src.training.engine.epoch_choice import merit
from src.training.evaluation.class_metrics import Metrics, score
from src.training.evaluation.value_metrics import score_values
from src.training.model.objective import PLAIN_CLASSIFICATION, Objective

# Nine rows of the common class, three of the rare one.
TRUE = np.array([0] * 9 + [1] * 3)
ALL_COMMON, SOME_RARE = np.zeros(12, np.int64), np.array([0] * 6 + [1] * 5 + [0])
BALANCED = Objective(kind="classification", class_weights=(12 / (2 * 9), 12 / (2 * 3)))


def scored(predicted: np.ndarray, *, loss: float = 0.5) -> Metrics:
    return score(split="validation", loss=loss, predicted=predicted, true=TRUE, class_names=("common", "rare"))


def test_without_weights_accuracy_decides_and_then_the_loss() -> None:
    plain = PLAIN_CLASSIFICATION
    assert merit(scored(ALL_COMMON), objective=plain) > merit(scored(SOME_RARE, loss=0.1), objective=plain)
    assert merit(scored(ALL_COMMON, loss=0.1), objective=plain) > merit(scored(ALL_COMMON, loss=0.2), objective=plain)
    assert merit(scored(SOME_RARE), objective=plain) == (8 / 12, -0.5)


def test_with_weights_an_epoch_that_sees_the_common_class_only_is_the_worse() -> None:
    assert merit(scored(SOME_RARE), objective=BALANCED) > merit(scored(ALL_COMMON), objective=BALANCED)


def test_balanced_weights_make_it_the_mean_of_the_recalls() -> None:
    metrics = scored(SOME_RARE)
    assert merit(metrics, objective=BALANCED)[0] == pytest.approx(metrics.recall)


def test_of_values_the_lowest_loss_is_the_best() -> None:
    objective = Objective(kind="regression")
    near, far = (
        score_values(split="test", loss=loss, predicted=np.zeros(3), true=np.arange(3.0)) for loss in (1.0, 2.0)
    )
    assert merit(near, objective=objective) > merit(far, objective=objective) > (-1.0, -np.inf)
