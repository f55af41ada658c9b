"""Before against after on the same rows: whether the difference is more than noise.

McNemar's test (Q. McNemar, Note on the sampling error of the difference between correlated proportions or
percentages, Psychometrika 12, 1947), in its exact form: of the rows that only one of two models gets right, each is
as likely the one's as the other's if the two are equally good. It says nothing of other seeds or other data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_NOISE_UP_TO = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two classifiers on the same rows.

    Attributes:
        better: rows that only the second gets right.
        worse: rows that only the first gets right.
        p_value: two-sided probability of a split at least as uneven, were both equally good.
    """

    better: int
    worse: int
    p_value: float

    @property
    def is_more_than_noise(self) -> bool:
        """Whether the p value is below 5 %."""
        return self.p_value < _NOISE_UP_TO

    @property
    def p_in_words(self) -> str:
        """The p value to three digits, as it follows `p`."""
        return "< 0.001" if self.p_value < 0.001 else f"= {self.p_value:.3f}"

    @property
    def is_better(self) -> bool:
        """Whether the second is the better one, be it by noise."""
        return self.better > self.worse

    @property
    def verdict(self) -> str:
        """One clause: better, worse, or noise."""
        if not self.is_more_than_noise:
            return "the difference may well be noise"
        return f"{'better' if self.is_better else 'worse'}, by more than noise"

    @property
    def in_words(self) -> str:
        """All of it in one clause."""
        return (
            f"{self.better:,} rows right that were wrong, {self.worse:,} wrong that were right: {self.verdict} "
            f"(McNemar's test, p {self.p_in_words})"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as metrics.json holds them."""
        return {"test": "mcnemar_exact", "better": self.better, "worse": self.worse, "p_value": self.p_value}


def compare(*, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> Comparison:
    """Compares the classes that two models predict.

    Args:
        before: class indices by the first model, int64 [rows].
        after: by the second, for the same rows.
        true: the right ones.

    Raises:
        ValueError: the three are not of one length.
    """
    if not len(before) == len(after) == len(true):
        raise ValueError(f"a paired test needs the same rows: {len(before)}, {len(after)} and {len(true)}")
    from scipy.stats import binomtest

    better = int(np.sum((before != true) & (after == true)))
    worse = int(np.sum((before == true) & (after != true)))
    differing = better + worse
    p_value = float(binomtest(better, differing, 0.5).pvalue) if differing else 1.0
    return Comparison(better=better, worse=worse, p_value=p_value)
