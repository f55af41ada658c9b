"""A share before and after training, each with its interval, on one scale."""

from __future__ import annotations

from typing import NamedTuple

from src.training.charts.geometry import LEFT, RIGHT, Chart, Dot, Scale


class Share(NamedTuple):
    """A share from 0 to 1 and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def before_and_after(name: str, *, before: Share, after: Share) -> Chart:
    """Draws two shares with their intervals on one scale from 0 to 100 %, lying.

    Args:
        name: what they are shares of, as a title begins.
        before: before training.
        after: after it.
    """
    x = Scale(low=0, high=100, start=LEFT + 14, end=RIGHT - 8, step=25)
    sides = (("before", 24.0, before), ("after", 58.0, after))
    dots = tuple(
        Dot(x=x(100 * share.value), y=height, low=x(100 * share.low), high=x(100 * share.high), label=side)
        for side, height, share in sides
    )
    description = "; ".join(
        f"{side} {share.value:.1%}, 95 % interval {share.low:.1%} to {share.high:.1%}" for side, _, share in sides
    )
    return Chart(
        title=f"{name} before and after", description=f"{description}.", x_ticks=x.ticks(" %"), y_ticks=(), dots=dots
    )
