"""Scores against costs."""

from __future__ import annotations

from src.training.charts.geometry import BOTTOM, LEFT, RIGHT, TOP
from src.training.charts.tradeoff import Priced, tradeoff_chart


def test_dots_lie_in_the_frame_and_the_line_joins_those_on_it() -> None:
    points = [Priced("a", 7.1, 0.70, 0.68, 0.72), Priced("b", 9.0, 0.80, 0.80, 0.80), Priced("c", 8.8, 0.69, 0.6, 0.78)]
    chart = tradeoff_chart(points, line=["a", "b"], kept="b", score="accuracy", cost="CPU seconds")
    assert chart is not None
    assert all(LEFT <= dot.x <= RIGHT and TOP <= dot.high <= dot.y <= dot.low <= BOTTOM for dot in chart.dots)
    assert [dot.kept for dot in chart.dots] == [False, True, False]
    [line] = chart.lines
    assert line.points == " ".join(f"{dot.x:g},{dot.y:g}" for dot in chart.dots[:2])
    assert "b: accuracy 0.8000, 9.0 CPU seconds" in chart.description


def test_one_point_is_drawn_and_none_is_not() -> None:
    one = tradeoff_chart([Priced("a", 0.0, 0.5, 0.5, 0.5)], line=["a"], kept="a", score="loss", cost="CPU seconds")
    assert one is not None
    assert one.lines == ()
    assert tradeoff_chart([], line=[], kept="", score="loss", cost="CPU seconds") is None
