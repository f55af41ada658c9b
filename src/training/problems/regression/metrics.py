"""Scores of a regression: errors in the label's own unit, and correlations."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.cli.formats import number_or_dash
from src.training.evaluation.problem import CardScore

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class ValueMetrics:
    """See `Metrics`.

    Attributes:
        loss: mean squared error, as training minimises it.
        mse: the same, of float64 values.
        mae: mean absolute error, in the label's unit.
        mae_ci95: where it would lie on many more such rows; None where one row, or a model gone wrong, tells nothing.
        pearson: correlation; None where it is not defined, as of values that are all the same.
        spearman: correlation of the ranks; None as above.
        r2: share of the labels' variance that is explained: 1 is perfect, 0 as good as their mean, less is worse.
    """

    split: str
    examples: int
    loss: float
    mse: float
    mae: float
    mae_ci95: tuple[float, float] | None
    pearson: float | None
    spearman: float | None
    r2: float | None

    @property
    def brief(self) -> str:
        return f"mean absolute error {self.mae:.4f}, loss {self.loss:.4f}"

    def lines(self) -> list[str]:
        interval = "" if self.mae_ci95 is None else " (95% interval {:.4f} to {:.4f})".format(*self.mae_ci95)
        pearson, spearman, r2 = map(number_or_dash, (self.pearson, self.spearman, self.r2))
        return [
            f"Examples: {self.examples:,} ({self.split})",
            f"Mean absolute error: {self.mae:.4f}{interval}",
            f"Mean squared error: {self.mse:.4f}",
            f"Correlation: Pearson {pearson}, Spearman {spearman}  R2: {r2}",
        ]

    def card_scores(self) -> list[CardScore]:
        interval = "-" if self.mae_ci95 is None else "{:.4f} to {:.4f}".format(*self.mae_ci95)
        return [
            CardScore("mean absolute error", number_or_dash(self.mae), "mae", self.mae),
            CardScore("95 % interval", interval),
            CardScore("mean squared error", number_or_dash(self.mse), "mse", self.mse),
            CardScore("Pearson correlation", number_or_dash(self.pearson), "pearsonr", self.pearson),
            CardScore("Spearman correlation", number_or_dash(self.spearman), "spearmanr", self.spearman),
            CardScore("R²", number_or_dash(self.r2), "r_squared", self.r2),
        ]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def as_event(self) -> dict[str, Any]:
        return {"mae": self.mae, "mae_ci95": self.mae_ci95, "pearson": self.pearson, "loss": self.loss}


def score_values(*, split: str, loss: float, predicted: np.ndarray, true: np.ndarray) -> ValueMetrics:
    """Scores predicted values.

    Args:
        split: name of the rows.
        loss: mean squared error.
        predicted: float [rows].
        true: float [rows].

    Returns:
        The scores.
    """
    predicted, true = predicted.astype(np.float64), true.astype(np.float64)
    errors = predicted - true
    variance = float(np.mean((true - true.mean()) ** 2))
    mse = float(np.mean(errors**2))
    return ValueMetrics(
        split=split,
        examples=len(true),
        loss=loss,
        mse=mse,
        mae=float(np.abs(errors).mean()),
        mae_ci95=mean_interval(np.abs(errors)),
        pearson=_correlation("pearsonr", predicted, true),
        spearman=_correlation("spearmanr", predicted, true),
        r2=_or_none(1 - mse / variance if variance else math.nan),
    )


def mean_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Returns Student's 95 % interval of a mean of sizes, which is not below 0; None where there is none."""
    from scipy import stats

    mean, rows = float(values.mean()), len(values)
    if rows < 2 or not math.isfinite(mean):
        return None
    half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, rows - 1)) * float(values.std(ddof=1)) / math.sqrt(rows)
    return max(0.0, mean - half), mean + half


def _correlation(kind: str, predicted: np.ndarray, true: np.ndarray) -> float | None:
    """Returns one of scipy's correlations."""
    from scipy import stats

    if len(true) < 2:
        return None
    with warnings.catch_warnings():
        # Of values that are all the same, which None tells.
        warnings.simplefilter("ignore")
        return _or_none(float(getattr(stats, kind)(predicted, true).statistic))


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
