"""Where a share would lie on many more such examples."""

from __future__ import annotations


def wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share: Wilson's (1927), which holds for few rows and near 0 and 1."""
    from scipy.stats import binomtest

    interval = binomtest(hits, rows).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
