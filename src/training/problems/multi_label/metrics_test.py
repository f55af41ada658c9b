"""Scores of many labels against scikit-learn's formulas by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from src.training.problems.multi_label.metrics import MultiLabelMetrics, score_labels
from src.training.problems.multi_label.problem import MultiLabel

NAMES = ("late", "rude", "lost")
TRUE = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
PREDICTED = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)


def scored(predicted: np.ndarray, true: np.ndarray = TRUE) -> MultiLabelMetrics:
    return score_labels(split="test", loss=0.5, predicted=predicted, true=true, names=NAMES)


def test_four_rows_by_hand() -> None:
    metrics = scored(PREDICTED)
    # Of 5 predicted and 4 true labels 3 are right.
    assert (metrics.precision_micro, metrics.recall_micro) == (3 / 5, 3 / 4)
    assert metrics.f1_micro == pytest.approx(6 / 9)
    # late: 2 of 3 and 2 of 2; rude: 1 of 1 and 1 of 2. No row has lost: it is in no mean.
    assert metrics.precision_macro == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.recall_macro == pytest.approx((1 + 1 / 2) / 2)
    assert metrics.f1_macro == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert (metrics.subset_accuracy, metrics.hamming_loss) == (2 / 4, 3 / 12)
    lost = metrics.label_scores[2]
    assert (lost.name, lost.rows, lost.predicted, lost.precision, lost.f1) == ("lost", 0, 1, 0.0, 0.0)
    assert json.loads(json.dumps(metrics.as_json()))["label_scores"][0]["rows"] == 2
    assert any("rude" in line and "0.6667" in line for line in metrics.lines())


def test_all_right_and_nothing_predicted() -> None:
    assert (scored(TRUE).f1_micro, scored(TRUE).subset_accuracy, scored(TRUE).hamming_loss) == (1.0, 1.0, 0.0)
    none = scored(np.zeros_like(TRUE))
    assert (none.f1_micro, none.f1_macro, none.subset_accuracy) == (0.0, 0.0, 1 / 4)
    assert scored(np.zeros_like(TRUE), np.zeros_like(TRUE)).f1_macro == 0.0


def test_a_label_is_predicted_from_a_half_on_and_rows_are_compared_whole() -> None:
    problem = MultiLabel(label_names=NAMES)
    logits = np.array([[2.0, -1.0, -3.0], [0.0, -0.1, 0.1]], np.float32)
    result = problem.score(logits, TRUE[:2].astype(np.float32), split="test")
    assert result.predicted.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
    assert result.confidence[0].tolist() == pytest.approx([0.8808, 0.7311, 0.9526], abs=1e-4)
    compared = problem.compare(before=np.zeros((4, 3)), after=PREDICTED.astype(float), true=TRUE.astype(float))
    assert (compared.better, compared.worse) == (1, 0)
