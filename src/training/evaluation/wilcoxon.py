"""Two models on the same examples: Wilcoxon's signed-rank test of their errors.

F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1, 1945: of the examples in which the errors
differ, each is as likely to have become smaller as larger if the two models are equally good, whatever the distribution
of the errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from src.training.evaluation.comparison import Comparison, require_same_examples

# Larger than any error: stands for a prediction that is not a number.
_INFINITE_ERROR = 1e300


@dataclass(frozen=True, kw_only=True)
class Wilcoxon(Comparison):
    """`better` and `worse` count the examples on which the second, the first model has the smaller error.

    Attributes:
        signed_rank_sum: above 0 where the errors of the second are the smaller ones, as the test sees it.
    """

    signed_rank_sum: float

    test = "wilcoxon_signed_rank"
    # What a smaller and a larger error is called, after the number of examples.
    smaller: ClassVar[str] = "nearer to their label"
    larger: ClassVar[str] = "farther from it"

    @property
    def is_better(self) -> bool:
        """Whether the second's errors are the smaller ones: a large change weighs more than a small one."""
        return self.signed_rank_sum > 0

    @property
    def summary(self) -> str:
        """What changed, the verdict and the test, in one clause."""
        return (
            f"{self.better:,} {self.smaller}, {self.worse:,} {self.larger}: {self.verdict} "
            f"(Wilcoxon's signed-rank test, p {self.p_text})"
        )


def compare_values(*, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> Wilcoxon:
    """Compares the values that two models predict.

    Args:
        before: values of the first model, float [examples].
        after: of the second.
        true: the right ones.

    Raises:
        ValueError: the three are not of one length.
    """
    require_same_examples(before, after, true)
    return Wilcoxon(**signed_ranks(*(np.abs(predicted.astype(np.float64) - true) for predicted in (before, after))))


def signed_ranks(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Returns the fields of a Wilcoxon that compares two models' errors, float64 [examples] and not below 0.

    Raises:
        ValueError: they are not of one length.
    """
    require_same_examples(before, after)
    from scipy.stats import rankdata, wilcoxon

    first, second = (np.nan_to_num(errors, nan=_INFINITE_ERROR, posinf=_INFINITE_ERROR) for errors in (before, after))
    gains = first - second
    differing = gains[gains != 0]
    return {
        "better": int(np.sum(gains > 0)),
        "worse": int(np.sum(gains < 0)),
        "p_value": float(wilcoxon(differing).pvalue) if len(differing) else 1.0,
        "signed_rank_sum": float(np.sum(np.sign(differing) * rankdata(np.abs(differing)))),
    }
