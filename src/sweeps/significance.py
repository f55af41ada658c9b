"""Whether settings differ by more than their seeds do: t tests of all pairs, corrected for their number.

Every setting is trained with the same seeds, so scores are compared seed by seed: a randomised block design, whose
residual variance is pooled over all settings, as three seeds alone would leave a pair two degrees of freedom. (R's
pairwise.t.test pools and corrects by default too.) It assumes that seeds scatter alike in all settings.

The tests of src/training/evaluation compare two models row by row. Here the question is about settings: another seed
gives another model, which may differ row by row though nothing else has changed.

S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import numpy as np


def paired_p_values(scores: np.ndarray) -> np.ndarray:
    """Compares all pairs of settings.

    Args:
        scores: float64 [settings, seeds], two or more of each.

    Returns:
        Two-sided p values, corrected by Holm's method over all pairs: float64 [settings, settings], 1 on the diagonal.
    """
    from scipy.stats import t

    settings, seeds = scores.shape
    means = scores.mean(axis=1)
    residuals = scores - means[:, None] - scores.mean(axis=0)[None, :] + scores.mean()
    freedom = (settings - 1) * (seeds - 1)
    # Scores that seeds do not change at all would divide by zero.
    variance = max(float((residuals**2).sum()) / freedom, float(np.finfo(float).eps) ** 2)
    first, second = np.triu_indices(settings, k=1)
    statistic = np.abs(means[first] - means[second]) / np.sqrt(2 * variance / seeds)
    corrected = holm(2 * t.sf(statistic, freedom))
    result = np.ones((settings, settings))
    result[first, second] = result[second, first] = corrected
    return result


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p values so that of all those below 5 %, one or more is wrong in 5 % of the cases at most.

    Args:
        p_values: float64 [tests].
    """
    order = np.argsort(p_values)
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return corrected
