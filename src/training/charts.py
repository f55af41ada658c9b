"""The report's curves as geometry: where lines, dots and ticks lie. The template draws them as SVG.

Hand-drawn, not matplotlib's: strokes and letters take their colours from the page, in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.training.metrics import Metrics, wilson_interval

# Narrow, so that letters keep their size where two charts share a desk's screen and where one fills a phone's.
WIDTH, HEIGHT = 360, 232
LEFT, RIGHT, TOP, BOTTOM = 52, 346, 14, 192
# Fewer points than this need no smoothing; the smooth line follows about a twentieth of them.
_FEWEST_TO_SMOOTH = 20

Point = tuple[float, float]
Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis, in the chart's pixels."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve: `kind` is its CSS class and `points` an SVG polyline's."""

    kind: str
    name: str
    points: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A measured value with its interval, in the chart's pixels; `label` says it in words."""

    x: float
    y: float
    low: float
    high: float
    label: str
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart over epochs; `description` is what a person who cannot see it is told."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A straight map of `low`..`high` to `start`..`end` pixels, with ticks at round numbers."""

    low: float
    high: float
    start: float
    end: float
    step: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, unit: str = "") -> tuple[Tick, ...]:
        """Returns the ticks, labelled with as many decimals as their step needs."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        values = [number * self.step for number in range(first, last + 1)]
        return tuple(Tick(at=self(value), label=f"{value:.{decimals}f}{unit}") for value in values)


def round_step(span: float, *, most: int) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that cuts a span above 0 into `most` parts or fewer."""
    power = 10 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most + 1e-9)


def loss_chart(events: Sequence[Event], *, split: str) -> Chart | None:
    """Draws the loss over the epochs: on the train rows as logged and smoothed, and on the scored split.

    Args:
        events: content of events.jsonl. A loss that is no number is left out.
        split: name of the rows that are scored after each epoch.

    Returns:
        The chart, or None where no loss is a number.
    """
    steps = [(event["epoch"], event["loss"]) for event in events if event["event"] == "step"]
    steps = [(at, loss) for at, loss in steps if math.isfinite(loss)]
    scored = [(_at(event, events), event["loss"]) for event in events if event["event"] == "evaluation"]
    scored = [(at, loss) for at, loss in scored if math.isfinite(loss)]
    values = [loss for _, loss in steps + scored]
    if not steps:
        return None
    x, y = _epochs(events), _value_scale(values, least=0.1)
    noisy = len(steps) >= _FEWEST_TO_SMOOTH
    lines = [Line(kind="raw" if noisy else "smooth", name="train", points=_polyline(steps, x=x, y=y))]
    if noisy:
        lines.append(Line(kind="smooth", name="train, smoothed", points=_polyline(_smooth(steps), x=x, y=y)))
    if len(scored) > 1:
        lines.append(Line(kind="scored", name=split, points=_polyline(scored, x=x, y=y)))
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
    x = _epochs(events)
    y = _value_scale([100 * bound for pair in bounds for bound in pair], least=10.0, most=100.0)
    places = [x(_at(event, events)) for event in scored]
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
    lines = [Line(kind="scored", name=split, points=_joined([(dot.x, dot.y) for dot in dots]))] if len(dots) > 1 else []
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
    x = _Scale(low=0, high=100, start=LEFT + 14, end=RIGHT - 8, step=25)
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


def _at(event: Event, events: Sequence[Event]) -> float:
    """Returns when an epoch was scored: at its end, or where the run ended with a part of one."""
    return min(float(event["epoch"]), _last_epoch(events))


def _last_epoch(events: Sequence[Event]) -> float:
    return max((float(event["epoch"]) for event in events if event["event"] == "step"), default=1.0)


def _epochs(events: Sequence[Event]) -> _Scale:
    last = _last_epoch(events)
    step = round_step(last, most=6)
    return _Scale(low=0, high=last, start=LEFT, end=RIGHT, step=max(1.0, step) if last >= 1 else step)


def _value_scale(values: Sequence[float], *, least: float, most: float = math.inf) -> _Scale:
    """Returns a scale over values, with room around them: at least `least` high, not below 0, not above `most`."""
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low)) / 2
    low, high = max(0.0, low - missing), min(most, high + missing)
    step = round_step(high - low, most=5)
    low = 0.0 if low < 0.3 * high else math.floor(low / step + 1e-9) * step
    return _Scale(low=low, high=min(most, math.ceil(high / step - 1e-9) * step), start=BOTTOM, end=TOP, step=step)


def _smooth(points: Sequence[Point]) -> list[Point]:
    """Returns the exponential moving mean, without the pull to its first value that a plain one has."""
    weight = 1 / max(2.0, len(points) / 20)
    total, norm, smoothed = 0.0, 0.0, []
    for at, value in points:
        total, norm = total + weight * (value - total), norm + weight * (1 - norm)
        smoothed.append((at, total / norm))
    return smoothed


def _polyline(points: Sequence[Point], *, x: _Scale, y: _Scale) -> str:
    return _joined([(x(at), y(value)) for at, value in points])


def _joined(points: Sequence[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
