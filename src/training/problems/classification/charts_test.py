"""Where accuracies and their intervals lie."""

from __future__ import annotations

from src.training.charts import geometry
from src.training.evaluation.intervals import wilson_interval
from src.training.problems.classification.charts import accuracy_chart
from src.training.testing.example_run import evaluation_event, example_run, step_event

RUN = example_run()


def numbers(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


def test_every_point_lies_within_the_frame() -> None:
    for events in (RUN.events, [step_event(1, epoch=1.0, loss=1.0), evaluation_event(1, accuracy=1.0, loss=0.0)]):
        chart = accuracy_chart(events, split="test", rows=10, kept_epoch=1)
        assert chart is not None
        points = [point for line in chart.lines for point in numbers(line.points)]
        points += [(dot.x, end) for dot in chart.dots for end in (dot.y, dot.low, dot.high)]
        assert all(geometry.LEFT <= x <= geometry.RIGHT for x, _ in points)
        assert all(geometry.TOP <= y <= geometry.BOTTOM for _, y in points)


def test_accuracy_has_wilsons_interval_and_says_which_epoch_is_kept() -> None:
    chart = accuracy_chart(RUN.events, split="validation", rows=800, kept_epoch=2)
    assert chart is not None
    low, high = wilson_interval(512, 800)
    assert chart.dots[1].label == f"epoch 2: 64.0% of validation (95 % interval {low:.1%} to {high:.1%})"
    assert [dot.kept for dot in chart.dots] == [False, True, False]
    assert all(dot.high < dot.y < dot.low for dot in chart.dots)


def test_a_last_epoch_that_is_a_part_of_one_is_drawn_where_it_ended() -> None:
    events = [
        step_event(1, epoch=1.0, loss=1.0),
        evaluation_event(1, accuracy=0.5, loss=1.0),
        step_event(2, epoch=1.5, loss=1.0),
        evaluation_event(2, accuracy=0.5, loss=1.0),
    ]
    chart = accuracy_chart(events, split="validation", rows=10, kept_epoch=2)
    assert chart is not None
    assert chart.dots[1].x == geometry.RIGHT


def test_there_is_no_chart_of_nothing() -> None:
    assert accuracy_chart([], split="validation", rows=10, kept_epoch=0) is None
