"""The page of a regression: what it says first, where it looks for mistakes, and that it survives odd runs."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from src.training.charts import geometry
from src.training.problems.regression import charts
from src.training.problems.regression.metrics import score_values
from src.training.problems.regression.page import bands, largest_errors
from src.training.report.page import report_page
from src.training.testing.example_run import example_regression


def words(page: str) -> str:
    """What a page says, without its style sheet and its tags."""
    page = re.sub("<style.*?</style>|<desc.*?</desc>|<title.*?</title>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(page.split())


def test_the_first_sentence_tells_errors_with_their_intervals() -> None:
    run = example_regression()
    metrics = run.after.metrics.as_json()
    page = report_page(run)
    low, high = metrics["mae_ci95"]
    told = f"{metrics['mae']:#.3g} ( {low:#.3g} to {high:#.3g} ) mean absolute error on 1,000 test rows it never saw"
    assert told in words(page)
    assert "better, by more than noise" in words(page)
    assert f"<title>mine: mean absolute error {metrics['mae']:#.3g}</title>" in page
    assert "accuracy" not in words(page).lower()


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    page = report_page(example_regression(text="<script>alert(1)</script>{row}"))
    assert re.findall(r"<script|https?:|url\(|@import|onclick", page) == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;859" in page
    assert re.findall("default-src 'none'", page)


def test_every_heading_that_is_named_is_there() -> None:
    page = report_page(example_regression())
    named = {name for names in re.findall('aria-labelledby="([^"]*)"', page) for name in names.split()}
    ids = re.findall(' id="([^"]*)"', page)
    assert named <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_page() -> None:
    assert report_page(example_regression()) == report_page(example_regression())


def test_the_rows_farthest_off_come_first() -> None:
    run = example_regression()
    far = largest_errors(run)
    errors = np.abs(run.after.predicted - np.array(run.test.labels))
    assert len(far) == 20
    assert abs(far[0].error) == pytest.approx(errors.max())
    assert [abs(row.error) for row in far] == sorted((abs(row.error) for row in far), reverse=True)


def test_a_pair_is_shown_with_both_texts() -> None:
    run = example_regression(rows=30)
    pairs = tuple(f"second {row}" for row in range(30))
    page = report_page(dataclasses.replace(run, test=dataclasses.replace(run.test, text_pairs=pairs)))
    assert re.search(r'row (\d+)<span class="second">second \1</span>', page)


def test_bands_hold_about_as_many_rows_each_and_every_row_once() -> None:
    true = np.arange(100.0)
    found = bands(predicted=true + 2, true=true)
    assert [band.rows for band in found] == [20] * 5
    assert all(band.bias == band.mae == 2 for band in found)
    assert [(band.low, band.high) for band in found][0] == (0.0, 19.0)


@pytest.mark.parametrize("labels", [[1.0] * 10, [1.0] * 9 + [5.0], [1.0, 2.0], [3.0]])
def test_bands_of_few_different_values_lose_no_row(labels: list[float]) -> None:
    true = np.array(labels)
    found = bands(predicted=np.zeros(len(true)), true=true)
    assert sum(band.rows for band in found) == len(true)
    assert sum(band.rows * band.mae for band in found) == pytest.approx(true.sum())


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e5])
def test_values_of_any_size_stay_within_the_frames(unit: float) -> None:
    run = example_regression(unit=unit)
    errors = charts.error_chart(run.events, split="validation", rows=800, kept_epoch=3)
    places = charts.scatter(predicted=run.after.predicted, true=np.array(run.test.labels))
    assert errors is not None and places is not None
    assert all(geometry.TOP <= at <= geometry.BOTTOM for dot in errors.dots for at in (dot.low, dot.high))
    for x, y in places.places:
        assert geometry.LEFT <= x <= geometry.RIGHT
        assert geometry.TOP <= y <= charts.SCATTER_BOTTOM
    assert all(len(tick.label) <= 6 for tick in (*errors.y_ticks, *places.y_ticks))
    assert errors.dots[-1].kept
    report_page(run)


def test_a_right_value_lies_on_the_line_and_one_too_high_above_it() -> None:
    found = charts.scatter(predicted=np.array([0.0, 5.0, 10.0]), true=np.array([0.0, 2.0, 10.0]))
    assert found is not None
    (left, low), (_, middle), (right, high) = found.places
    assert left - geometry.LEFT == pytest.approx(charts.SCATTER_BOTTOM - low, abs=0.11)
    assert high - geometry.TOP == pytest.approx(geometry.RIGHT - right, abs=0.11)
    assert middle < charts.SCATTER_BOTTOM - (found.places[1][0] - geometry.LEFT)


def test_many_rows_are_drawn_as_a_sample() -> None:
    found = charts.scatter(predicted=np.arange(5000.0), true=np.arange(5000.0))
    assert found is not None
    assert (len(found.places), found.rows) == (1000, 5000)
    assert "1,000 of 5,000 test rows" in words(report_page(example_regression(rows=5000)))


def test_a_run_that_went_wrong_still_has_a_page() -> None:
    run = example_regression()
    lost = np.full(1000, math.nan, np.float32)
    events = tuple(event | {"loss": math.nan, "mae": math.nan, "mae_ci95": None} for event in map(dict, run.events))
    metrics = score_values(split="test", loss=math.nan, predicted=lost, true=np.array(run.test.labels))
    after = dataclasses.replace(run.after, predicted=lost, metrics=metrics)
    page = words(report_page(dataclasses.replace(run, after=after, events=events)))
    assert "nan" not in page
    assert "training has diverged" in page


def test_values_are_told_in_three_digits() -> None:
    told = [charts.format_value(value) for value in (1.3, 0.0123456, 123.4, 123456.7, math.nan, 0.0)]
    assert told == ["1.30", "0.0123", "123", "123,457", "–", "0.00"]
    assert (charts.format_label(3.0), charts.format_label(0.10000000149)) == ("3", "0.1")
    assert (charts.format_correlation(None), charts.format_correlation(0.5)) == ("–", "0.500")
