"""Where the curves' points and ticks lie."""

from __future__ import annotations

import numpy as np
import pytest

from src.training.charts import geometry
from src.training.charts.loss import loss_chart
from src.training.testing.example_run import evaluation_event, example_run, step_event

RUN = example_run()


def numbers(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


@pytest.mark.parametrize(
    ("span", "max_ticks", "step"), [(1, 5, 0.2), (0.9, 5, 0.2), (10, 5, 2), (3, 6, 0.5), (7, 6, 2), (0.004, 5, 0.001)]
)
def test_steps_are_round(span: float, max_ticks: int, step: float) -> None:
    assert geometry.round_step(span, max_ticks=max_ticks) == pytest.approx(step)


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 40, 1000])
def test_epochs_are_marked_by_whole_numbers_from_left_to_right(epochs: int) -> None:
    chart = loss_chart(example_run(epochs=epochs).events, split="validation")
    assert chart is not None
    assert 2 <= len(chart.x_ticks) <= 7
    assert all(tick.label.isdigit() for tick in chart.x_ticks)
    assert (chart.x_ticks[0].at, chart.x_ticks[0].label) == (geometry.LEFT, "0")
    assert [tick.at for tick in chart.x_ticks] == sorted(tick.at for tick in chart.x_ticks)


def test_every_point_lies_within_the_frame() -> None:
    wild = [step_event(step, epoch=step / 50, loss=float(10 ** (step % 7 - 3))) for step in range(1, 51)]
    for events in (RUN.events, (*wild, evaluation_event(1, accuracy=1.0, loss=0.0))):
        chart = loss_chart(events, split="test")
        assert chart is not None
        points = [point for line in chart.lines for point in numbers(line.points)]
        points += [(dot.x, end) for dot in chart.dots for end in (dot.y, dot.low, dot.high)]
        assert all(geometry.LEFT <= x <= geometry.RIGHT for x, _ in points)
        assert all(geometry.TOP <= y <= geometry.BOTTOM for _, y in points)


def test_a_smaller_loss_lies_lower_and_the_smooth_line_has_less_noise() -> None:
    chart = loss_chart(RUN.events, split="validation")
    assert chart is not None
    raw, smooth, _ = ([y for _, y in numbers(line.points)] for line in chart.lines)
    assert raw[-1] > raw[0]
    assert np.std(np.diff(smooth)) < np.std(np.diff(raw)) / 1.5
    assert smooth[0] == raw[0]


def test_few_points_are_drawn_as_they_are() -> None:
    events = [step_event(step, epoch=step / 3, loss=1.0) for step in (1, 2, 3)]
    chart = loss_chart(events, split="validation")
    assert chart is not None
    assert [(line.kind, line.name) for line in chart.lines] == [("smooth", "train")]


def test_there_is_no_chart_of_nothing() -> None:
    assert loss_chart([], split="validation") is None


@pytest.mark.parametrize(("high", "last"), [(1.0, "1.0"), (5000.0, "5000"), (5e9, "5e9"), (5e-7, "5e-7")])
def test_a_tick_is_no_longer_than_there_is_room(high: float, last: str) -> None:
    scale = geometry.value_scale([high / 2, high], min_height=0.0)
    assert scale.ticks()[-1].label == last
