"""The loss curves as geometry: where lines, dots and ticks lie. The template draws them as SVG.

Hand-drawn, not matplotlib's: strokes and letters take their colours from the page, in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from src.training.charts.geometry import (
    Chart,
    Dot,
    Event,
    Line,
    Point,
    epoch_scale,
    polyline,
    scored_at,
    value_scale,
)

# Fewer points than this need no smoothing; the smooth line follows about a twentieth of them.
_MIN_TO_SMOOTH = 20


def loss_chart(events: Sequence[Event], *, split: str, min_height: float = 0.1) -> Chart | None:
    """Draws the loss over the epochs: on the train rows as logged and smoothed, and on the scored split.

    Args:
        events: content of events.jsonl. A loss that is no number is left out.
        split: name of the rows that are scored after each epoch.
        min_height: of the range shown, so that a loss that hardly moves looks like one.

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
    x, y = epoch_scale(events), value_scale(values, min_height=min_height)
    noisy = len(steps) >= _MIN_TO_SMOOTH
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
        caption=f"Dots: the {split} loss after each epoch." if dots else "",
    )


def _smooth(points: Sequence[Point]) -> list[Point]:
    """Returns the exponential moving mean, without the pull to its first value that a plain one has."""
    weight = 1 / max(2.0, len(points) / 20)
    total, norm, smoothed = 0.0, 0.0, []
    for at, value in points:
        total, norm = total + weight * (value - total), norm + weight * (1 - norm)
        smoothed.append((at, total / norm))
    return smoothed
