"""The charts of a regression: mean absolute errors with their intervals, and predicted against true values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.training.charts.geometry import (
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Dot,
    Event,
    Line,
    Scale,
    Tick,
    epoch_scale,
    joined,
    round_step,
    scored_at,
    value_scale,
)
from src.training.problems.regression.metrics import ValueMetrics

# As high as wide, so that the line of right values is the diagonal.
SCATTER_BOTTOM = TOP + RIGHT - LEFT
SCATTER_HEIGHT = SCATTER_BOTTOM + 44
# More dots than this are one blot, and a page of megabytes.
_MAX_DOTS = 1000


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Predicted against true values, one place a row, in the chart's pixels.

    Attributes:
        ticks: of the true values, from left to right.
        y_ticks: the same values, of the predicted ones.
        rows: how many there are; `places` may be a sample.
    """

    description: str
    ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    places: tuple[tuple[float, float], ...]
    rows: int


def format_value(value: float) -> str:
    """Returns a measured value or error as people read it: three digits, or a dash for one that is no number."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:#.3g}".removesuffix(".")


def format_label(value: float) -> str:
    """Returns a label as it was given, in four digits, or six if it is large."""
    return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.6g}"


def format_correlation(value: float | None) -> str:
    """Returns a correlation or the like, or a dash for one that is not defined."""
    return "–" if value is None else f"{value:.3f}"


def interval(metrics: ValueMetrics) -> str:
    """Returns the interval of the mean absolute error in words."""
    return "no interval" if metrics.mae_ci95 is None else " to ".join(map(format_value, metrics.mae_ci95))


def error_chart(events: Sequence[Event], *, split: str, rows: int, kept_epoch: int) -> Chart | None:
    """Draws the mean absolute error after each epoch with its 95 % interval.

    Args:
        events: content of events.jsonl. An error that is no number is left out.
        split: name of the examples that are scored after each epoch.
        rows: how many they are.
        kept_epoch: the epoch whose weights are kept, counted from 1.

    Returns:
        The chart, or None where no epoch has an error.
    """
    scored = [event for event in events if event["event"] == "evaluation" and math.isfinite(event["mae"])]
    if not scored:
        return None
    bounds = [event["mae_ci95"] or (event["mae"], event["mae"]) for event in scored]
    highest = max(high for _, high in bounds)
    x = epoch_scale(events)
    y = value_scale([bound for pair in bounds for bound in pair], min_height=0.1 * highest or 1.0)
    dots = tuple(
        Dot(
            x=x(scored_at(event, events)),
            y=y(event["mae"]),
            low=y(low),
            high=y(high),
            label=f"epoch {event['epoch']}: mean absolute error {format_value(event['mae'])} on {split} rows "
            f"(95 % interval {format_value(low)} to {format_value(high)})",
            kept=event["epoch"] == kept_epoch,
        )
        for event, (low, high) in zip(scored, bounds, strict=True)
    )
    lines = [Line(kind="scored", name=split, points=joined([(dot.x, dot.y) for dot in dots]))] if len(dots) > 1 else []
    return Chart(
        title="Mean absolute error",
        description=f"{'; '.join(dot.label for dot in dots)}. Epoch {kept_epoch} is kept.",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        lines=tuple(lines),
        dots=dots,
        caption=f"On {rows:,} {split} rows after each epoch, with its 95\u00a0% interval; the ringed epoch is kept.",
    )


def errors_before_and_after(before: ValueMetrics, after: ValueMetrics) -> Chart:
    """Draws two mean absolute errors with their 95 % intervals on one scale from 0, lying."""
    both = (("before", 24.0, before), ("after", 58.0, after))
    bounds = {name: metrics.mae_ci95 or (metrics.mae, metrics.mae) for name, _, metrics in both}
    high = max((bound for pair in bounds.values() for bound in pair if math.isfinite(bound)), default=0.0) or 1.0
    x = Scale(low=0, high=high, start=LEFT + 14, end=RIGHT - 8, step=round_step(high, max_ticks=4))
    dots = tuple(
        Dot(x=x(metrics.mae), y=height, low=x(bounds[name][0]), high=x(bounds[name][1]), label=name)
        for name, height, metrics in both
        if math.isfinite(metrics.mae)
    )
    scores = (f"{name} {format_value(each.mae)}, 95 % interval {interval(each)}" for name, _, each in both)
    return Chart(
        title="Mean absolute error before and after",
        description=f"{'; '.join(scores)}.",
        x_ticks=x.ticks(),
        y_ticks=(),
        dots=dots,
    )


def scatter(*, predicted: np.ndarray, true: np.ndarray) -> Scatter | None:
    """Draws predicted against true values on one scale, both ways; None where no value is predicted.

    Args:
        predicted: float [rows]. Those that are no number are left out.
        true: float [rows].
    """
    drawn = np.flatnonzero(np.isfinite(predicted))
    if not len(drawn):
        return None
    # Evenly over the rows: by chance it would be another page each time.
    drawn = drawn[np.linspace(0, len(drawn) - 1, min(_MAX_DOTS, len(drawn))).astype(int)]
    values = np.concatenate([predicted[drawn], true[drawn]])
    low, high = float(values.min()), float(values.max())
    room = 0.03 * (high - low) or 1.0
    low, high = low - room, high + room
    step = round_step(high - low, max_ticks=6)
    x = Scale(low=low, high=high, start=LEFT, end=RIGHT, step=step)
    y = Scale(low=low, high=high, start=SCATTER_BOTTOM, end=TOP, step=step)
    return Scatter(
        description="True values from {} to {}, predicted ones from {} to {}.".format(
            *(format_label(float(end)) for end in (true.min(), true.max())),
            *(format_value(float(end)) for end in (predicted[drawn].min(), predicted[drawn].max())),
        ),
        ticks=x.ticks(),
        y_ticks=y.ticks(),
        places=tuple((x(float(true[row])), y(float(predicted[row]))) for row in drawn),
        rows=len(predicted),
    )
