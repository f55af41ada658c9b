"""Two models on the same examples, each of which is right or wrong: McNemar's test.

Q. McNemar, Note on the sampling error of the difference between correlated proportions or percentages, Psychometrika
12, 1947; in its exact form: of the examples that only one of two models gets right, each is as likely the one's as the
other's if the two are equally good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.training.evaluation.comparison import Comparison, require_same_examples


@dataclass(frozen=True, kw_only=True)
class McNemar(Comparison):
    """`better` and `worse` count the examples that only the second, only the first model gets right."""

    test = "mcnemar_exact"

    @property
    def summary(self) -> str:
        """What changed, the verdict and the test, in one clause."""
        return (
            f"{self.better:,} right that were wrong, {self.worse:,} wrong that were right: {self.verdict} "
            f"(McNemar's exact test, p {self.p_text})"
        )


def compare_classes(*, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> McNemar:
    """Compares the classes that two models predict.

    Args:
        before: class indices by the first model, int64 [examples].
        after: by the second.
        true: the right ones.

    Raises:
        ValueError: the three are not of one length.
    """
    require_same_examples(before, after, true)
    return compare_right(before=before == true, after=after == true)


def compare_right(*, before: np.ndarray, after: np.ndarray) -> McNemar:
    """Compares which examples two models get right, both bool [examples].

    Raises:
        ValueError: they are not of one length.
    """
    require_same_examples(before, after)
    from scipy.stats import binomtest

    better, worse = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    differing = better + worse
    p_value = float(binomtest(better, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(better=better, worse=worse, p_value=p_value)
