"""Where on a chart a value lies: frames, scales with round ticks, and the lines and dots drawn by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Narrow, so that letters keep their size where two charts share a desk's screen and where one fills a phone's.
WIDTH, HEIGHT = 360, 232
LEFT, RIGHT, TOP, BOTTOM = 52, 346, 14, 192
# What fits to the left of an axis.
_MAX_LABEL_LETTERS = 6

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
    """A chart; `description` is for people who cannot see it, `caption` what stands below its legend."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Scale:
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
        labels = [f"{value:.{decimals}f}" for value in values]
        if max(map(len, labels)) > _MAX_LABEL_LETTERS:
            labels = ["0" if value == 0 else _in_powers_of_ten(value) for value in values]
        return tuple(Tick(at=self(value), label=label + unit) for value, label in zip(values, labels, strict=True))


def _in_powers_of_ten(value: float) -> str:
    """Returns 0.0004 as `4e-4`."""
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def round_step(span: float, *, max_ticks: int) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that cuts a span above 0 into so many parts or fewer."""
    power = 10 ** math.floor(math.log10(span / max_ticks))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= max_ticks + 1e-9)


def scored_at(event: Event, events: Sequence[Event]) -> float:
    """Returns when an epoch was scored: at its end, or where the run ended with a part of one."""
    return min(float(event["epoch"]), _last_epoch(events))


def _last_epoch(events: Sequence[Event]) -> float:
    return max((float(event["epoch"]) for event in events if event["event"] == "step"), default=1.0)


def epoch_scale(events: Sequence[Event]) -> Scale:
    """Returns the scale from the start to the last epoch, which may be a part of one, with ticks at whole epochs."""
    last = _last_epoch(events)
    step = round_step(last, max_ticks=6)
    return Scale(low=0, high=last, start=LEFT, end=RIGHT, step=max(1.0, step) if last >= 1 else step)


def value_scale(values: Sequence[float], *, min_height: float, max_value: float = math.inf) -> Scale:
    """Returns a scale over values with room around them: `min_height` high or more, from 0 to `max_value` at most."""
    low, high = min(values), max(values)
    missing = max(0.0, min_height - (high - low)) / 2
    low, high = max(0.0, low - missing), min(max_value, high + missing)
    step = round_step(high - low, max_ticks=5)
    low = 0.0 if low < 0.3 * high else math.floor(low / step + 1e-9) * step
    return Scale(low=low, high=min(max_value, math.ceil(high / step - 1e-9) * step), start=BOTTOM, end=TOP, step=step)


def polyline(points: Sequence[Point], *, x: Scale, y: Scale) -> str:
    """Returns an SVG polyline's points for values."""
    return joined([(x(at), y(value)) for at, value in points])


def joined(points: Sequence[Point]) -> str:
    """Returns an SVG polyline's points for pixels."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)
