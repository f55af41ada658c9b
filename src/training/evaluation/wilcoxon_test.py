"""The paired test of errors: against the exact distribution, and what it calls noise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import rankdata

from src.training.evaluation.wilcoxon import Wilcoxon, compare_values


def compared(before: list[float], after: list[float]) -> Wilcoxon:
    """Compares errors: the true values are all 0."""
    return compare_values(before=np.array(before), after=np.array(after), true=np.zeros(len(before)))


def test_the_p_value_is_that_of_all_signs_the_ranks_could_have() -> None:
    before, after = np.array([5.0, 3.0, 4.5, 1.0, 2.5, 6.0, 0.5]), np.array([1.0, 2.0, 4.0, 1.3, 0.8, 3.5, 2.7])
    nearer = before - after
    ranks = rankdata(np.abs(nearer))
    found = abs(np.sum(np.sign(nearer) * ranks))
    sums = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    told = compare_values(before=before, after=after, true=np.zeros(7))
    assert told.p_value == pytest.approx(np.mean([total >= found - 1e-9 for total in sums]))
    assert (told.better, told.worse) == (5, 2)


def test_the_side_on_which_a_value_is_wrong_does_not_matter() -> None:
    assert compared([2.0, -2.0], [-1.0, 1.0]).better == 2
    told = compare_values(before=np.array([5.0]), after=np.array([1.0]), true=np.array([2.0]))
    assert (told.better, told.worse) == (1, 0)


def test_smaller_errors_on_most_rows_are_better_and_larger_ones_worse() -> None:
    random = np.random.default_rng(0)
    wide, narrow = random.normal(size=200) * 2, random.normal(size=200)
    better, worse = compared(wide.tolist(), narrow.tolist()), compared(narrow.tolist(), wide.tolist())
    assert better.verdict == "better, by more than noise"
    assert worse.verdict == "worse, by more than noise"
    assert (better.p_value, better.better) == (worse.p_value, worse.worse)


def test_the_verdict_follows_the_test_and_not_the_count() -> None:
    # 35 rows a hair farther, 25 rows much nearer.
    before = [1.0] * 35 + [5.0 + row / 100 for row in range(25)]
    after = [1.001 + row / 1e5 for row in range(35)] + [0.0] * 25
    told = compared(before, after)
    assert (told.better, told.worse) == (25, 35)
    assert told.is_better


def test_equally_good_models_differ_by_more_than_noise_in_1_of_20_cases() -> None:
    random = np.random.default_rng(1)
    alarms = [
        compared(random.normal(size=60).tolist(), random.normal(size=60).tolist()).is_significant for _ in range(1000)
    ]
    assert 0.03 < np.mean(alarms) < 0.07


def test_models_that_say_the_same_do_not_differ() -> None:
    told = compared([1.0, 2.0], [1.0, 2.0])
    assert (told.p_value, told.better, told.worse) == (1.0, 0, 0)
    assert "may well be noise" in told.verdict


def test_a_model_that_says_no_number_any_more_is_the_worse() -> None:
    told = compared([1.0 + row / 7 for row in range(20)], [math.nan] * 20)
    assert (told.worse, told.verdict) == (20, "worse, by more than noise")
    assert compared([math.nan] * 20, [math.inf] * 20).p_value == 1.0


def test_it_is_told_in_one_clause_and_in_json() -> None:
    told = compared([3.0, 4.0, 1.0], [1.0, 1.0, 2.0])
    assert told.summary.startswith("2 nearer to their label, 1 farther from it: the difference may well be noise")
    assert told.summary.endswith("(Wilcoxon's signed-rank test, p = 0.500)")
    assert told.as_json() == {"test": "wilcoxon_signed_rank", "better": 2, "worse": 1, "p_value": 0.5}


def test_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="2, 1, 2"):
        compare_values(before=np.zeros(2), after=np.zeros(1), true=np.zeros(2))
