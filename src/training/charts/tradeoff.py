"""Scores against what they cost, with the line of those that nothing cheaper equals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from src.training.charts.geometry import LEFT, RIGHT, Chart, Dot, Line, joined, value_scale


class Priced(NamedTuple):
    """A score, the ends of its interval, and its cost; `label` names it."""

    label: str
    cost: float
    score: float
    low: float
    high: float


def tradeoff_chart(points: Sequence[Priced], *, line: Sequence[str], kept: str, score: str, cost: str) -> Chart | None:
    """Draws scores against costs.

    Args:
        points: to draw.
        line: labels of those on the line, cheapest first.
        kept: label of the one that is ringed.
        score: name of the score.
        cost: name of the cost.

    Returns:
        The chart; None without points, or with a score below 0.
    """
    if not points or min(point.low for point in points) < 0:
        return None
    x = dataclasses.replace(
        value_scale([point.cost for point in points], min_height=0.02 * max(point.cost for point in points) + 1e-6),
        start=LEFT + 6,
        end=RIGHT - 6,
    )
    y = value_scale([bound for point in points for bound in (point.low, point.high)], min_height=0.01)
    dots = {
        point.label: Dot(
            x=x(point.cost),
            y=y(point.score),
            low=y(point.low),
            high=y(point.high),
            label=f"{point.label}: {score} {point.score:.4f}, {point.cost:.1f} {cost}",
            kept=point.label == kept,
        )
        for point in points
    }
    corners = [(dots[label].x, dots[label].y) for label in line]
    lines = [Line(kind="scored", name="Pareto line", points=joined(corners))] if len(corners) > 1 else []
    return Chart(
        title=f"{score.capitalize()} against {cost}",
        description=f"{'; '.join(dot.label for dot in dots.values())}. On the Pareto line: {'; '.join(line)}.",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        lines=tuple(lines),
        dots=tuple(dots.values()),
    )
