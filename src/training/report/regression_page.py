"""What report.html shows of a regression: errors before and after, predicted against true, the rows farthest off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from src.training.evaluation.value_metrics import RegressionMetrics
from src.training.report import regression_charts as value_charts
from src.training.report.charts import loss_chart
from src.training.report.regression_charts import told
from src.training.report.result import FinishedRun

_MOST_ROWS = 20
_BANDS = 5
_TEXT_LETTERS = 500


@dataclass(frozen=True, kw_only=True)
class FarRow:
    """A row whose value the trained model misses by much; `pair` is its second text, if it has one."""

    text: str
    pair: str | None
    true: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted less true."""
        return self.predicted - self.true


@dataclass(frozen=True, kw_only=True)
class Band:
    """Rows of like true values: their range, and means over them.

    Attributes:
        bias: mean of predicted less true: above 0 where the model says too much.
    """

    low: float
    high: float
    rows: int
    predicted: float
    bias: float
    mae: float


def regression_view(run: FinishedRun) -> dict[str, Any]:
    """Returns what the template of a regression is filled with, beside what every page has."""
    before, after = run.before.metrics, run.after.metrics
    assert isinstance(before, RegressionMetrics) and isinstance(after, RegressionMetrics)
    split = run.resolved["inputs"]["data"]["validation"]["split"]
    losses = [event["loss"] for event in run.events if np.isfinite(event["loss"])]
    true = np.array(run.test.labels)
    return {
        "interval_chart": value_charts.errors_before_and_after(before, after),
        "curves": [
            # In the square of the label's unit, whatever that is: no height is the right one for all.
            loss_chart(run.events, split=split, least=0.1 * max(losses, default=0.0) or 1.0),
            value_charts.error_chart(run.events, split=split, kept_epoch=run.kept_epoch),
        ],
        "scatter": value_charts.scatter(predicted=run.after.predicted, true=true),
        "bands": bands(predicted=run.after.predicted, true=true),
        "far": farthest_rows(run),
        "values": value_charts,
        "told": told,
    }


def farthest_rows(run: FinishedRun) -> tuple[FarRow, ...]:
    """Returns the rows that the trained model is farthest off on, the farthest first; a row without value is that."""
    errors = np.abs(run.after.predicted - np.array(run.test.labels))
    order = np.argsort(-np.nan_to_num(errors, nan=np.inf), kind="stable")[:_MOST_ROWS]
    return tuple(
        FarRow(
            text=cut_text(run.test.texts[row]),
            pair=None if run.test.text_pairs is None else cut_text(run.test.text_pairs[row]),
            true=float(run.test.labels[row]),
            predicted=float(run.after.predicted[row]),
        )
        for row in order
        if errors[row] != 0
    )


def cut_text(text: str) -> str:
    """Returns as much of a text as a page has room for."""
    return text if len(text) <= _TEXT_LETTERS else text[:_TEXT_LETTERS].rstrip() + " …"


def bands(*, predicted: np.ndarray, true: np.ndarray) -> tuple[Band, ...]:
    """Returns the rows in up to five bands of about as many rows each, by their true value, from low to high."""
    edges = np.unique(np.quantile(true, np.linspace(0, 1, _BANDS + 1)))
    # A value belongs to one band only, however many rows have it: to the lower one of two that meet in it.
    number = np.clip(np.searchsorted(edges, true, side="left") - 1, 0, max(0, len(edges) - 2))
    found = []
    for band in np.unique(number):
        rows = number == band
        errors = predicted[rows] - true[rows]
        found.append(
            Band(
                low=float(true[rows].min()),
                high=float(true[rows].max()),
                rows=int(rows.sum()),
                predicted=float(predicted[rows].mean()),
                bias=float(errors.mean()),
                mae=float(np.abs(errors).mean()),
            )
        )
    return tuple(found)
