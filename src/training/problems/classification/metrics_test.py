"""Scores against values worked out by hand, and by scipy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from src.training.problems.classification.metrics import ClassMetrics, class_scores, most_confused, score_classes


def scored(predicted: list[int], true: list[int], names: tuple[str, ...] = ("a", "b", "c")) -> ClassMetrics:
    return score_classes(split="test", loss=0.5, predicted=np.array(predicted), true=np.array(true), class_names=names)


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
    metrics = score_classes(split="test", loss=0.1, predicted=predicted, true=true, class_names=names)
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


def test_of_many_classes_the_cells_that_hold_rows_are_written() -> None:
    names = tuple(f"c{number}" for number in range(1000))
    written = scored([0, 5, 5, 7], [0, 5, 6, 6], names).as_json()
    assert written["confusions"] == {"c0": {"c0": 1}, "c5": {"c5": 1}, "c6": {"c5": 1, "c7": 1}}
    assert len(json.dumps(written, indent=2)) < 20_000


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
    first, second = most_confused(scored([1, 1, 0, 2, 2, 1], [0, 0, 0, 1, 2, 1]), max_pairs=5)
    assert (first.true, first.predicted, first.rows) == ("a", "b", 2)
    assert first.share == pytest.approx(2 / 3)
    assert (second.true, second.predicted, second.rows, second.share) == ("b", "c", 1, 0.5)
    assert most_confused(scored([1, 1, 2], [0, 0, 1]), max_pairs=1)[0].rows == 2
    assert most_confused(scored([0, 1, 2], [0, 1, 2]), max_pairs=5) == ()
