"""The p values of settings: against an analysis written out, and their rate of false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from src.sweeps.significance import holm, paired_p_values


def test_two_settings_are_the_paired_t_test() -> None:
    scores = np.array([[0.70, 0.74, 0.71, 0.69], [0.72, 0.75, 0.74, 0.70]])
    assert paired_p_values(scores)[0, 1] == pytest.approx(ttest_rel(*scores).pvalue)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: never below the one before.
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.9, 0.5])).tolist() == [1.0, 1.0]


def test_what_seeds_do_to_all_settings_alike_counts_for_nothing() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, (4, 5))
    seeds = np.random.default_rng(2).normal(0, 10, (1, 5))
    assert paired_p_values(noise + seeds) == pytest.approx(paired_p_values(noise))


def test_equal_settings_seldom_differ() -> None:
    generator = np.random.default_rng(7)
    alarms = [paired_p_values(generator.normal(0.8, 0.02, (9, 3))).min() < 0.05 for _ in range(400)]
    # 5 % at most, plus three standard deviations of 400 draws.
    assert np.mean(alarms) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_a_real_difference_is_seen() -> None:
    scores = np.random.default_rng(3).normal(0.8, 0.005, (9, 3))
    scores[4] += 0.1
    p_values = paired_p_values(scores)
    assert (np.delete(p_values[4], 4) < 0.001).all()


@pytest.mark.parametrize(("first", "second", "p_value"), [(0.7, 0.8, 0.0), (0.7, 0.7, 1.0)])
def test_seeds_that_change_nothing(first: float, second: float, p_value: float) -> None:
    scores = np.array([[first] * 3, [second] * 3])
    assert paired_p_values(scores)[0, 1] == pytest.approx(p_value, abs=1e-9)
