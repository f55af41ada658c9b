"""Scores of each class against values worked out by hand, and against the means over the classes."""

from __future__ import annotations

import numpy as np
import pytest

from src.training.evaluation.class_metrics import Metrics, score
from src.training.evaluation.class_scores import class_scores, most_confused


def scored(predicted: list[int], true: list[int]) -> Metrics:
    names = ("a", "b", "c")
    return score(split="test", loss=0.5, predicted=np.array(predicted), true=np.array(true), class_names=names)


def test_each_class_by_hand() -> None:
    a, b, c = class_scores(scored([0, 0, 1, 1, 2, 0, 2, 2], [0, 0, 0, 1, 1, 2, 2, 2]))
    assert [(one.name, one.rows) for one in (a, b, c)] == [("a", 3), ("b", 2), ("c", 3)]
    assert (a.precision, a.recall, a.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (b.precision, b.recall, b.f1) == pytest.approx((1 / 2, 1 / 2, 1 / 2))


def test_their_means_are_the_macro_scores() -> None:
    random = np.random.default_rng(0)
    metrics = scored(random.integers(0, 3, 500).tolist(), random.integers(0, 3, 500).tolist())
    scores = class_scores(metrics)
    assert np.mean([one.precision for one in scores]) == pytest.approx(metrics.precision)
    assert np.mean([one.recall for one in scores]) == pytest.approx(metrics.recall)
    assert np.mean([one.f1 for one in scores]) == pytest.approx(metrics.f1)


def test_a_class_without_rows_or_predictions_scores_nothing() -> None:
    _, _, c = class_scores(scored([0, 1], [0, 1]))
    assert (c.rows, c.precision, c.recall, c.f1) == (0, 0, 0, 0)


def test_pairs_come_by_their_number_of_mistakes() -> None:
    first, second = most_confused(scored([1, 1, 0, 2, 2, 1], [0, 0, 0, 1, 2, 1]), most=5)
    assert (first.true, first.predicted, first.rows) == ("a", "b", 2)
    assert first.share == pytest.approx(2 / 3)
    assert (second.true, second.predicted, second.rows, second.share) == ("b", "c", 1, 0.5)
    assert most_confused(scored([1, 1, 2], [0, 0, 1]), most=1)[0].rows == 2
    assert most_confused(scored([0, 1, 2], [0, 1, 2]), most=5) == ()
