"""McNemar's exact test against values worked out by hand, and by scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from src.training.evaluation.mcnemar import McNemar, compare_classes


def compared(*, better: int, worse: int, both: int = 3, neither: int = 2) -> McNemar:
    """Compares two models of which each has rows that only it gets right."""
    before = np.array([0] * better + [1] * worse + [1] * both + [0] * neither)
    after = np.array([1] * better + [0] * worse + [1] * both + [0] * neither)
    return compare_classes(before=before, after=after, true=np.ones(len(before), np.int64))


# P(split at least as uneven) = 2 * sum(C(n, k), k <= worse) / 2^n.
@pytest.mark.parametrize(
    ("better", "worse", "p_value"),
    [(5, 0, 2 / 32), (6, 0, 2 / 64), (9, 1, 2 * 11 / 1024), (1, 9, 2 * 11 / 1024), (2, 2, 1), (8, 2, 2 * 56 / 1024)],
)
def test_the_p_value_by_hand(better: int, worse: int, p_value: float) -> None:
    comparison = compared(better=better, worse=worse)
    assert (comparison.better, comparison.worse) == (better, worse)
    assert comparison.p_value == pytest.approx(p_value)


def test_rows_that_both_get_right_or_wrong_do_not_count() -> None:
    assert compared(better=9, worse=1, both=0, neither=0) == compared(better=9, worse=1, both=1000, neither=1000)


def test_large_counts_agree_with_the_chi_squared_form() -> None:
    from scipy.stats import chi2

    # With the correction for continuity, McNemar's own form of 1947.
    statistic = (abs(1060 - 940) - 1) ** 2 / 2000
    assert compared(better=1060, worse=940).p_value == pytest.approx(chi2.sf(statistic, 1), rel=0.02)


def test_two_equal_models_are_told_apart_by_nothing() -> None:
    comparison = compared(better=0, worse=0)
    assert (comparison.p_value, comparison.is_significant) == (1.0, False)


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        (60, 20, "better, by more than noise"),
        (20, 60, "worse, by more than noise"),
        (32, 30, "the difference may well be noise"),
    ],
)
def test_the_verdict_is_in_plain_words(better: int, worse: int, verdict: str) -> None:
    assert compared(better=better, worse=worse).verdict == verdict


@pytest.mark.parametrize(("p_value", "words"), [(0.0, "< 0.001"), (0.00099, "< 0.001"), (0.04567, "= 0.046")])
def test_p_is_never_told_as_nothing(p_value: float, words: str) -> None:
    assert McNemar(better=1, worse=0, p_value=p_value).p_text == words


def test_predictions_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="the same examples: 2, 3, 3"):
        compare_classes(before=np.zeros(2), after=np.zeros(3), true=np.zeros(3))


def test_it_is_written_as_documented() -> None:
    written = json.loads(json.dumps(compared(better=5, worse=0).as_json()))
    assert written == {"test": "mcnemar_exact", "better": 5, "worse": 0, "p_value": 0.0625}
