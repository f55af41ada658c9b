"""Where shares before and after lie."""

from __future__ import annotations

from src.training.charts.shares import Share, before_and_after


def test_before_and_after_lie_on_one_scale() -> None:
    chart = before_and_after("Accuracy", before=Share(0.5, 0.469, 0.531), after=Share(0.875, 0.853, 0.894))
    before, after = chart.dots
    assert before.low < before.x < before.high < after.low < after.x < after.high
    assert "before 50.0%, 95 % interval 46.9% to 53.1%; after 87.5%" in chart.description
    assert chart.title == "Accuracy before and after"
