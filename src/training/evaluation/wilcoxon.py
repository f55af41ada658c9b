"""Before against after on the same rows of a regression: whether the errors changed by more than noise.

Wilcoxon's signed-rank test (F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1, 1945) of the
absolute errors: of the rows in which they differ, each is as likely to have become nearer as farther if the two models
are equally good, whatever the distribution of the errors. It says nothing of other seeds or other data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from src.training.evaluation.mcnemar import Comparison

# Farther off than anything: a value that is none.
_FAR = 1e300


@dataclass(frozen=True, kw_only=True)
class ErrorComparison(Comparison):
    """Two regressions on the same rows.

    Attributes:
        better: rows whose value the second is nearer to.
        worse: rows whose value the first is nearer to.
        p_value: two-sided, of the signed ranks.
        signed_rank_sum: above 0 where the errors of the second are the smaller ones, as the test sees it.
    """

    signed_rank_sum: float

    @property
    def is_better(self) -> bool:
        """Whether the second's errors are the smaller ones: a row much nearer weighs more than one a little farther."""
        return self.signed_rank_sum > 0

    @property
    def in_words(self) -> str:
        """All of it in one clause."""
        return (
            f"{self.better:,} rows nearer to their label, {self.worse:,} farther from it: {self.verdict} "
            f"(Wilcoxon's test, p {self.p_in_words})"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as metrics.json holds them."""
        return super().as_json() | {"test": "wilcoxon_signed_rank"}


def compare_errors(*, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> ErrorComparison:
    """Compares the values that two models predict.

    Args:
        before: values of the first model, float [rows].
        after: of the second, for the same rows.
        true: the right ones.

    Raises:
        ValueError: the three are not of one length.
    """
    if not len(before) == len(after) == len(true):
        raise ValueError(f"a paired test needs the same rows: {len(before)}, {len(after)} and {len(true)}")
    from scipy.stats import rankdata, wilcoxon

    first, second = (
        np.nan_to_num(np.abs(said.astype(np.float64) - true), nan=_FAR, posinf=_FAR) for said in (before, after)
    )
    nearer = first - second
    differing = nearer[nearer != 0]
    return ErrorComparison(
        better=int(np.sum(nearer > 0)),
        worse=int(np.sum(nearer < 0)),
        p_value=float(wilcoxon(differing).pvalue) if len(differing) else 1.0,
        signed_rank_sum=float(np.sum(np.sign(differing) * rankdata(np.abs(differing)))),
    )
