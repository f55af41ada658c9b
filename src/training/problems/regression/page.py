"""What the report shows of a regression: errors before and after, predicted against true, the largest errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.training.charts.loss import loss_chart
from src.training.charts.text import cut_text
from src.training.evaluation.result import FinishedRun
from src.training.problems.regression import charts
from src.training.problems.regression.charts import format_value
from src.training.problems.regression.metrics import ValueMetrics

TEMPLATE = Path(__file__).with_name("regression.html.j2")
_MAX_ROWS = 20
_BANDS = 5


@dataclass(frozen=True, kw_only=True)
class LargeError:
    """An example that the trained model misses by much; `pair` is its second text, if it has one."""

    text: str
    pair: str | None
    true: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted minus true."""
        return self.predicted - self.true


@dataclass(frozen=True, kw_only=True)
class Band:
    """Examples of similar true values: their range, and means over them.

    Attributes:
        bias: mean of predicted minus true: above 0 where predictions are too high.
    """

    low: float
    high: float
    rows: int
    predicted: float
    bias: float
    mae: float


def page_view(run: FinishedRun) -> dict[str, Any]:
    """Returns what the template is filled with, beside what every page has."""
    before, after = run.before.metrics, run.after.metrics
    assert isinstance(before, ValueMetrics) and isinstance(after, ValueMetrics)
    split = run.validation["split"]
    losses = [event["loss"] for event in run.events if np.isfinite(event["loss"])]
    true = np.array(run.test.labels)
    return {
        "interval_chart": charts.errors_before_and_after(before, after),
        "curves": [
            # In the square of the label's unit, whatever that is: no height is the right one for all.
            loss_chart(run.events, split=split, min_height=0.1 * max(losses, default=0.0) or 1.0),
            charts.error_chart(run.events, split=split, rows=run.validation["rows"], kept_epoch=run.kept_epoch),
        ],
        "scatter": charts.scatter(predicted=run.after.predicted, true=true),
        "bands": bands(predicted=run.after.predicted, true=true),
        "largest_errors": largest_errors(run),
        "charts": charts,
        "format_value": format_value,
    }


def largest_errors(run: FinishedRun) -> tuple[LargeError, ...]:
    """Returns the examples with the largest errors, the largest first; a prediction that is not a number is one."""
    errors = np.abs(run.after.predicted - np.array(run.test.labels))
    order = np.argsort(-np.nan_to_num(errors, nan=np.inf), kind="stable")[:_MAX_ROWS]
    return tuple(
        LargeError(
            text=cut_text(run.test.texts[row]),
            pair=None if run.test.text_pairs is None else cut_text(run.test.text_pairs[row]),
            true=float(run.test.labels[row]),
            predicted=float(run.after.predicted[row]),
        )
        for row in order
        if errors[row] != 0
    )


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
