"""Scores of values against those worked out by hand, and what is said where there is nothing to say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from src.training.problems.regression.metrics import ValueMetrics, mean_interval, score_values


def scored(predicted: list[float], true: list[float]) -> ValueMetrics:
    return score_values(split="test", loss=0.5, predicted=np.array(predicted), true=np.array(true))


def test_scores_by_hand() -> None:
    metrics = scored([1.0, 2.0, 5.0, 4.0], [1.0, 3.0, 3.0, 5.0])
    assert (metrics.examples, metrics.loss) == (4, 0.5)
    assert (metrics.mse, metrics.mae) == (6 / 4, 4 / 4)
    # Labels around their mean of 3: 4 + 0 + 0 + 4.
    assert metrics.r2 == 1 - 6 / 8
    # Deviations (-2, -1, 2, 1) and (-2, 0, 0, 2): 6 over the root of 10 times 8.
    assert metrics.pearson == pytest.approx(6 / math.sqrt(80))
    # Ranks (1, 2, 4, 3) and (1, 2.5, 2.5, 4): 3 over the root of 5 times 4.5.
    assert metrics.spearman == pytest.approx(3 / math.sqrt(22.5))


def test_a_model_that_is_off_by_a_constant_correlates_and_is_wrong_all_the_same() -> None:
    metrics = scored([11.0, 12.0, 13.0], [1.0, 2.0, 3.0])
    assert metrics.pearson == pytest.approx(1.0)
    assert metrics.r2 is not None and metrics.r2 < 0
    assert metrics.mae == 10.0


def test_the_interval_holds_the_mean_error_of_more_rows_in_19_of_20_cases() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        interval = mean_interval(np.abs(random.normal(size=100)))
        assert interval is not None
        inside += interval[0] <= math.sqrt(2 / math.pi) <= interval[1]
    assert 0.93 < inside / 2000 < 0.965


def test_the_interval_is_never_below_0() -> None:
    interval = mean_interval(np.array([0.0, 0.0, 9.0]))
    assert interval is not None
    assert interval[0] == 0.0


@pytest.mark.parametrize(
    ("predicted", "true", "missing"),
    [
        ([2.0, 2.0], [1.0, 3.0], {"pearson", "spearman"}),
        ([1.0, 3.0], [2.0, 2.0], {"pearson", "spearman", "r2"}),
        ([1.0], [2.0], {"pearson", "spearman", "r2", "mae_ci95"}),
        ([math.nan, 1.0], [1.0, 2.0], {"pearson", "spearman", "r2", "mae_ci95"}),
    ],
    ids=["one value predicted", "one value true", "one row", "gone wrong"],
)
def test_what_is_not_defined_is_null(predicted: list[float], true: list[float], missing: set[str]) -> None:
    told = scored(predicted, true).as_json()
    assert {name for name, value in told.items() if value is None} == missing
    assert json.loads(json.dumps(told))["split"] == "test"
