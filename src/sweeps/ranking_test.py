"""Settings are ranked by the mean over their seeds on validation rows; a setting that lacks a seed cannot win."""

from __future__ import annotations

import math

import pytest

from src.cli.errors import RequestError
from src.sweeps.outcome import COMPLETE, Outcome, outcome_of, refused
from src.sweeps.points import Point, Sweep
from src.sweeps.ranking import Ranking, rank
from src.sweeps.summary import summary

Scores = tuple[float, ...]


def point(rate: str, seed: int, *, validation: float, test: float, cost: float, score: str = "accuracy") -> Point:
    return Point(
        label=f"//models:s/rate={rate},seed={seed}",
        settings={"rate": rate},
        seed=seed,
        outcome=Outcome(status=COMPLETE, validation={score: validation}, test={score: test}),
        cpu_seconds=cost,
    )


def ranked(table: dict[str, tuple[Scores, Scores, float]], *, score: str = "accuracy", asked: str = "") -> Ranking:
    """rate -> validation and test scores by seed, and the cost."""
    points = [
        point(rate, seed, validation=one, test=other, cost=cost, score=score)
        for rate, (validation, test, cost) in table.items()
        for seed, (one, other) in enumerate(zip(validation, test, strict=True), start=1)
    ]
    return rank(Sweep(label="//models:s", score=asked, points=tuple(points)))


TABLE: dict[str, tuple[Scores, Scores, float]] = {
    "low": ((0.70, 0.72, 0.71), (0.80, 0.81, 0.82), 10.0),
    "high": ((0.80, 0.84, 0.82), (0.79, 0.80, 0.81), 30.0),
    "mid": ((0.75, 0.74, 0.76), (0.70, 0.71, 0.72), 40.0),
}


def rates(ranking: Ranking) -> list[str]:
    return [setting.values["rate"] for setting in ranking.settings]


def test_the_order_is_that_of_validation_rows() -> None:
    ranking = ranked(TABLE)
    assert rates(ranking) == ["high", "mid", "low"], "by test rows it would be low"
    assert ranking.best_point is not None
    assert ranking.best_point.label == "//models:s/rate=high,seed=2"


def test_of_errors_the_lowest_wins() -> None:
    ranking = ranked(TABLE, score="loss")
    assert rates(ranking) == ["low", "mid", "high"]
    assert ranking.best_point is not None
    assert ranking.best_point.seed == 1


def test_mean_and_interval_are_students() -> None:
    ranking = ranked(TABLE)
    estimate = ranking.validation(ranking.settings[0])
    assert estimate is not None
    # t(0.975, 2) = 4.302653; the standard deviation is 0.02.
    assert estimate.mean == pytest.approx(0.82)
    assert estimate.half_width == pytest.approx(4.302653 * 0.02 / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_interval_and_no_p_value() -> None:
    ranking = ranked({"a": ((0.7,), (0.7,), 1.0), "b": ((0.8,), (0.8,), 1.0)})
    estimate = ranking.validation(ranking.settings[0])
    assert estimate is not None
    assert estimate.half_width is None
    assert ranking.compared == ()
    assert "p: needs two settings with two seeds or more" in summary(ranking)


def test_the_pareto_line_holds_what_nothing_cheaper_equals() -> None:
    assert [setting.values["rate"] for setting in ranked(TABLE).pareto] == ["low", "high"]


def test_a_setting_that_lacks_a_seed_cannot_win_and_says_why() -> None:
    points = list(ranked(TABLE).sweep.points)
    lost = next(at for at, one in enumerate(points) if one.label.endswith("rate=high,seed=3"))
    points[lost] = Point(
        label=points[lost].label, settings={"rate": "high"}, seed=3, outcome=refused("--learning_rate must be smaller")
    )
    ranking = rank(Sweep(label="//models:s", score="", points=tuple(points)))
    assert rates(ranking) == ["mid", "low", "high"]
    text = summary(ranking)
    assert "9 points (8 complete, 1 refused), 3 settings" in text
    assert "refused  //models:s/rate=high,seed=3: --learning_rate must be smaller" in text
    assert " 2/3  high" in text


def test_a_sweep_without_scores_is_no_crash() -> None:
    points = tuple(
        Point(label=f"//m:s/a={value}", settings={"a": value}, seed=1, outcome=refused("no")) for value in "xy"
    )
    ranking = rank(Sweep(label="//m:s", score="", points=points))
    assert ranking.best_point is None
    assert "No setting has scores of all its seeds" in summary(ranking)


def test_a_score_that_the_points_lack_is_refused() -> None:
    with pytest.raises(RequestError, match="no acuracy on both validation and test rows .did you mean accuracy"):
        ranked(TABLE, asked="acuracy")


@pytest.mark.parametrize(
    ("validation", "loss", "status"),
    [
        ({"split": "validation", "accuracy": 0.8, "loss": 0.4}, 0.5, "complete"),
        ({"split": "validation", "accuracy": 0.8, "loss": 0.4}, math.nan, "diverged"),
        ({"split": "validation", "accuracy": 0.8, "loss": 0.4}, None, "diverged"),
        # Where the validation rows are the test rows.
        (None, 0.5, "refused"),
    ],
)
def test_outcomes(validation: dict[str, object] | None, loss: float | None, status: str) -> None:
    after = {"split": "test", "accuracy": 0.7, "loss": loss, "accuracy_ci95": [0.6, 0.8]}
    outcome = outcome_of({"validation": validation, "after": after})
    assert outcome.status == status
    if status == "complete":
        assert (outcome.validation, outcome.test) == ({"accuracy": 0.8, "loss": 0.4}, {"accuracy": 0.7, "loss": 0.5})
    else:
        assert outcome.message
