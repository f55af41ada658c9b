"""The better epoch: by accuracy, by accuracy as the classes weigh, or by loss."""

from __future__ import annotations

import numpy as np
import pytest

from src.training.problems.classification.metrics import ClassMetrics, score_classes
from src.training.problems.classification.problem import Classification
from src.training.problems.multi_label.metrics import score_labels
from src.training.problems.multi_label.problem import MultiLabel
from src.training.problems.regression.metrics import score_values
from src.training.problems.regression.problem import Regression

# Nine rows of the common class, three of the rare one.
TRUE = np.array([0] * 9 + [1] * 3)
ALL_COMMON, SOME_RARE = np.zeros(12, np.int64), np.array([0] * 6 + [1] * 5 + [0])
NAMES = ("common", "rare")
PLAIN = Classification(class_names=NAMES)
BALANCED = Classification(class_names=NAMES, class_weights=(12 / (2 * 9), 12 / (2 * 3)))


def scored(predicted: np.ndarray, *, loss: float = 0.5) -> ClassMetrics:
    return score_classes(split="validation", loss=loss, predicted=predicted, true=TRUE, class_names=NAMES)


def test_without_weights_accuracy_decides_and_then_the_loss() -> None:
    assert PLAIN.merit(scored(ALL_COMMON)) > PLAIN.merit(scored(SOME_RARE, loss=0.1))
    assert PLAIN.merit(scored(ALL_COMMON, loss=0.1)) > PLAIN.merit(scored(ALL_COMMON, loss=0.2))
    assert PLAIN.merit(scored(SOME_RARE)) == (8 / 12, -0.5)


def test_with_weights_an_epoch_that_sees_the_common_class_only_is_the_worse() -> None:
    assert BALANCED.merit(scored(SOME_RARE)) > BALANCED.merit(scored(ALL_COMMON))


def test_balanced_weights_make_it_the_mean_of_the_recalls() -> None:
    metrics = scored(SOME_RARE)
    assert BALANCED.merit(metrics)[0] == pytest.approx(metrics.recall)


def test_of_values_the_lowest_loss_is_the_best() -> None:
    problem = Regression(label_name="score")
    near, far = (
        score_values(split="test", loss=loss, predicted=np.zeros(3), true=np.arange(3.0)) for loss in (1.0, 2.0)
    )
    assert problem.merit(near) > problem.merit(far)


def test_of_many_labels_f1_over_all_decisions_decides_and_then_the_loss() -> None:
    problem, true = MultiLabel(label_names=NAMES), np.array([[True, False], [True, True]])
    none, all_right = (
        score_labels(split="test", loss=0.5, predicted=predicted, true=true, names=NAMES)
        for predicted in (np.zeros((2, 2), bool), true)
    )
    assert problem.merit(all_right) == (1.0, -0.5) > problem.merit(none) == (0.0, -0.5)
