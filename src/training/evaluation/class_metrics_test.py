"""Scores against values worked out by hand, and by scipy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from src.training.evaluation.class_metrics import Metrics, score


def scored(predicted: list[int], true: list[int], names: tuple[str, ...] = ("a", "b", "c")) -> Metrics:
    return score(split="test", loss=0.5, predicted=np.array(predicted), true=np.array(true), class_names=names)


def test_three_classes_by_hand() -> None:
    metrics = scored([0, 0, 1, 1, 2, 0, 2, 2], [0, 0, 0, 1, 1, 2, 2, 2])
    assert metrics.confusion_matrix == ((2, 1, 0), (0, 1, 1), (1, 0, 2))
    assert metrics.accuracy == 5 / 8
    assert metrics.precision == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert metrics.recall == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert metrics.f1 == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert (metrics.examples, metrics.loss, metrics.labels) == (8, 0.5, ("a", "b", "c"))


def test_precision_goes_by_what_was_predicted_and_recall_by_what_is_true() -> None:
    metrics = scored([0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1], ("a", "b"))
    assert metrics.precision == pytest.approx((3 / 5 + 1) / 2)
    assert metrics.recall == pytest.approx((1 + 1 / 3) / 2)
    assert metrics.f1 == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_all_right() -> None:
    metrics = scored([0, 1, 2, 2], [0, 1, 2, 2])
    assert (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1) == (1, 1, 1, 1)
    assert metrics.accuracy_ci95[0] < 0.6 < metrics.accuracy_ci95[1] <= 1


def test_all_wrong() -> None:
    metrics = scored([1, 0], [0, 1], ("a", "b"))
    assert (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1) == (0, 0, 0, 0)
    assert metrics.accuracy_ci95[0] == pytest.approx(0)


def test_a_class_that_is_never_predicted_counts_as_none_found() -> None:
    metrics = scored([0, 0, 0, 0], [0, 0, 1, 1], ("a", "b"))
    assert metrics.precision == pytest.approx((1 / 2 + 0) / 2)
    assert metrics.recall == pytest.approx((1 + 0) / 2)
    assert metrics.f1 == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_that_no_row_has_does_not_pull_the_means_down() -> None:
    metrics = scored([0, 1, 1], [0, 1, 1])
    assert (metrics.precision, metrics.recall, metrics.f1) == (1, 1, 1)
    assert metrics.confusion_matrix[2] == (0, 0, 0)


@pytest.mark.parametrize(("hits", "rows"), [(0, 7), (5, 7), (694, 872), (10, 10)])
def test_the_interval_is_wilsons(hits: int, rows: int) -> None:
    low, high = scored([0] * rows, [0] * hits + [1] * (rows - hits), ("a", "b")).accuracy_ci95
    z, share = 1.959963984540054, hits / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    assert (low, high) == pytest.approx((middle - reach, middle + reach), abs=1e-12)


def test_many_classes_are_counted_as_scipy_does() -> None:
    from scipy.sparse import coo_matrix

    random = np.random.default_rng(0)
    true, predicted = random.integers(0, 20, 5000), random.integers(0, 20, 5000)
    names = tuple(f"class {number}" for number in range(20))
    metrics = score(split="test", loss=0.1, predicted=predicted, true=true, class_names=names)
    counts = coo_matrix((np.ones(5000, int), (true, predicted)), shape=(20, 20)).toarray()
    assert np.array_equal(metrics.confusion_matrix, counts)
    assert metrics.recall == pytest.approx(
        np.mean([np.mean(predicted[true == number] == number) for number in range(20)])
    )
    assert metrics.precision == pytest.approx(
        np.mean([np.mean(true[predicted == number] == number) for number in range(20)])
    )


def test_scores_survive_json() -> None:
    read = json.loads(json.dumps(scored([0, 1, 2], [0, 1, 1]).as_json()))
    assert read["confusion_matrix"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert read["labels"] == ["a", "b", "c"]
