"""The report's curves as geometry: where lines, dots and ticks lie. The template draws them as SVG.

Hand-drawn, not matplotlib's: strokes and letters take their colours from the page, in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from src.training.evaluation.class_metrics import Metrics, wilson_interval
from src.training.report.chart_geometry import (
    LEFT,
    RIGHT,
    Chart,
    Dot,
    Event,
    Line,
    Point,
    Scale,
    epoch_scale,
    joined,
    polyline,
    scored_at,
    value_scale,
)

# Fewer points than this need no smoothing; the smooth line follows about a twentieth of them.
_FEWEST_TO_SMOOTH = 20


def loss_chart(events: Sequence[Event], *, split: str, least: float = 0.1) -> Chart | None:
    """Draws the loss over the epochs: on the train rows as logged and smoothed, and on the scored split.

    Args:
        events: content of events.jsonl. A loss that is no number is left out.
        split: name of the rows that are scored after each epoch.
        least: height of the chart at least, so that a loss that hardly moves looks like one.

    Returns:
        The chart, or None where no loss is a number.
    """
    steps = [(event["epoch"], event["loss"]) for event in events if event["event"] == "step"]
    steps = [(at, loss) for at, loss in steps if math.isfinite(loss)]
    scored = [(scored_at(event, events), event["loss"]) for event in events if event["event"] == "evaluation"]
    scored = [(at, loss) for at, loss in scored if math.isfinite(loss)]
    values = [loss for _, loss in steps + scored]
    if not steps:
        return None
    x, y = epoch_scale(events), value_scale(values, least=least)
    noisy = len(steps) >= _FEWEST_TO_SMOOTH
    lines = [Line(kind="raw" if noisy else "smooth", name="train", points=polyline(steps, x=x, y=y))]
    if noisy:
        lines.append(Line(kind="smooth", name="train, smoothed", points=polyline(_smooth(steps), x=x, y=y)))
    if len(scored) > 1:
        lines.append(Line(kind="scored", name=split, points=polyline(scored, x=x, y=y)))
    dots = [
        Dot(x=x(at), y=y(loss), low=y(loss), high=y(loss), label=f"epoch {at:g}: {split} loss {loss:.4f}")
        for at, loss in scored
    ]
    return Chart(
        title="Loss",
        description=f"Loss on the train rows from {steps[0][1]:.3f} at the first logged step to {steps[-1][1]:.3f} "
        + f"at the last. {'; '.join(dot.label for dot in dots)}.",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        lines=tuple(lines),
        dots=tuple(dots),
    )


def accuracy_chart(events: Sequence[Event], *, split: str, rows: int, kept_epoch: int) -> Chart | None:
    """Draws the accuracy after each epoch with its 95 % interval.

    Args:
        events: content of events.jsonl.
        split: name of the rows that are scored after each epoch.
        rows: how many they are.
        kept_epoch: the epoch whose weights are kept, counted from 1.

    Returns:
        The chart, or None where no epoch was scored.
    """
    scored = [event for event in events if event["event"] == "evaluation"]
    if not scored:
        return None
    shares = [event["accuracy"] for event in scored]
    bounds = [wilson_interval(round(share * rows), rows) for share in shares]
    x = epoch_scale(events)
    y = value_scale([100 * bound for pair in bounds for bound in pair], least=10.0, most=100.0)
    places = [x(scored_at(event, events)) for event in scored]
    dots = tuple(
        Dot(
            x=place,
            y=y(100 * share),
            low=y(100 * low),
            high=y(100 * high),
            label=f"epoch {event['epoch']}: {share:.1%} of {split} (95 % interval {low:.1%} to {high:.1%})",
            kept=event["epoch"] == kept_epoch,
        )
        for event, place, share, (low, high) in zip(scored, places, shares, bounds, strict=True)
    )
    lines = [Line(kind="scored", name=split, points=joined([(dot.x, dot.y) for dot in dots]))] if len(dots) > 1 else []
    return Chart(
        title="Accuracy",
        description=f"{'; '.join(dot.label for dot in dots)}. Epoch {kept_epoch} is kept.",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(" %"),
        lines=tuple(lines),
        dots=dots,
    )


def before_and_after(before: Metrics, after: Metrics) -> Chart:
    """Draws two accuracies with their 95 % intervals on one scale from 0 to 100 %, lying."""
    x = Scale(low=0, high=100, start=LEFT + 14, end=RIGHT - 8, step=25)
    dots = tuple(
        Dot(
            x=x(100 * metrics.accuracy),
            y=height,
            low=x(100 * metrics.accuracy_ci95[0]),
            high=x(100 * metrics.accuracy_ci95[1]),
            label=name,
        )
        for name, height, metrics in (("before", 24.0, before), ("after", 58.0, after))
    )
    told = "; ".join(
        "{} {:.1%}, 95 % interval {:.1%} to {:.1%}".format(name, metrics.accuracy, *metrics.accuracy_ci95)
        for name, metrics in (("before", before), ("after", after))
    )
    return Chart(
        title="Accuracy before and after", description=f"{told}.", x_ticks=x.ticks(" %"), y_ticks=(), dots=dots
    )


def _smooth(points: Sequence[Point]) -> list[Point]:
    """Returns the exponential moving mean, without the pull to its first value that a plain one has."""
    weight = 1 / max(2.0, len(points) / 20)
    total, norm, smoothed = 0.0, 0.0, []
    for at, value in points:
        total, norm = total + weight * (value - total), norm + weight * (1 - norm)
        smoothed.append((at, total / norm))
    return smoothed
