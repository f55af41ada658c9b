"""Which settings are better: by the mean over their seeds on validation rows, told on test rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean
from src.sweeps.points import Point, Sweep
from src.sweeps.significance import paired_p_values

# What the kinds of problems choose their epochs by.
_DEFAULT_SCORES = ("accuracy", "f1_micro", "loss")
_LOWER_IS_BETTER = ("loss", "mae", "mse", "perplexity", "hamming_loss")
# Each pair more makes each p value larger, and who compares thousands asks about the best of them.
_MAX_COMPARED = 100


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds; `half_width` is of its 95 % interval (Student), None of one seed."""

    mean: float
    half_width: float | None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The points that differ in nothing but their seed, in the order of the seeds."""

    values: Mapping[str, str]
    points: tuple[Point, ...]

    @cached_property
    def complete(self) -> tuple[Point, ...]:
        """The points with scores."""
        return tuple(point for point in self.points if point.is_complete)

    @property
    def is_whole(self) -> bool:
        """Whether all of its seeds have scores."""
        return len(self.complete) == len(self.points)

    @property
    def cpu_seconds(self) -> float | None:
        """Mean of a complete point."""
        costs = [point.cpu_seconds for point in self.complete if point.cpu_seconds is not None]
        return statistics.fmean(costs) if costs else None

    @property
    def name(self) -> str:
        """Its values in one line."""
        return ", ".join(f"{field}={value}" for field, value in self.values.items()) or "(all the same)"


@dataclass(frozen=True)
class Ranking:
    """A sweep in order: whole settings first, the best before; then those that some of their seeds have no score of.

    Attributes:
        sweep: what is ranked.
        score: name of the score.
        settings: in order.
    """

    sweep: Sweep
    score: str
    settings: tuple[Setting, ...]

    @property
    def is_lower_better(self) -> bool:
        """Whether the score is an error."""
        return self.score in _LOWER_IS_BETTER

    @property
    def whole(self) -> tuple[Setting, ...]:
        """The settings that may win."""
        return tuple(setting for setting in self.settings if setting.is_whole)

    @property
    def incomplete(self) -> tuple[Point, ...]:
        """The points without scores."""
        return tuple(point for point in self.sweep.points if not point.is_complete)

    @property
    def winner(self) -> Setting | None:
        """The setting with the best mean on validation rows, whose seeds have all a score."""
        return next(iter(self.whole), None)

    @property
    def best_point(self) -> Point | None:
        """The winner's seed with the best score on validation rows."""
        if self.winner is None:
            return None
        return max(self.winner.points, key=lambda point: self.merit(point.outcome.validation[self.score]))

    def merit(self, score: float) -> float:
        """Returns what is larger for a better score."""
        return -score if self.is_lower_better else score

    def validation(self, setting: Setting) -> Estimate | None:
        """Returns a setting's mean on validation rows."""
        return _estimate([point.outcome.validation[self.score] for point in setting.complete])

    def test(self, setting: Setting) -> Estimate | None:
        """Returns a setting's mean on test rows."""
        return _estimate([point.outcome.test[self.score] for point in setting.complete])

    @cached_property
    def compared(self) -> tuple[Setting, ...]:
        """The settings that are compared pair by pair: whole ones, with seeds enough."""
        whole = self.whole[:_MAX_COMPARED]
        return whole if len(whole) > 1 and len(whole[0].points) > 1 else ()

    @cached_property
    def p_values(self) -> np.ndarray:
        """Float64 [compared, compared]: see `paired_p_values`; of the scores on test rows."""
        rows = [[point.outcome.test[self.score] for point in setting.points] for setting in self.compared]
        return paired_p_values(np.array(rows)) if rows else np.zeros((0, 0))

    @cached_property
    def pareto(self) -> tuple[Setting, ...]:
        """The settings that no cheaper one equals, cheapest first: score on validation rows against CPU seconds."""
        scored = [
            (setting.cpu_seconds, -self.merit(estimate.mean), setting)
            for setting in self.whole
            if (estimate := self.validation(setting)) is not None and setting.cpu_seconds is not None
        ]
        line: list[Setting] = []
        lowest = math.inf
        for _, value, setting in sorted(scored, key=lambda entry: entry[:2]):
            if value < lowest:
                line.append(setting)
                lowest = value
        return tuple(line)


def rank(sweep: Sweep) -> Ranking:
    """Ranks a sweep.

    Raises:
        RequestError: it is to be ranked by a score that its points do not have.
    """
    score = _score_of(sweep)
    by_values: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    for point in sweep.points:
        by_values.setdefault(tuple(point.settings.items()), []).append(point)
    ranking = Ranking(sweep, score, ())

    def order(setting: Setting) -> tuple[bool, float]:
        estimate = ranking.validation(setting)
        return not setting.is_whole, math.inf if estimate is None else -ranking.merit(estimate.mean)

    settings = (
        Setting(values=dict(values), points=tuple(sorted(points, key=lambda point: point.seed)))
        for values, points in by_values.items()
    )
    return Ranking(sweep, score, tuple(sorted(settings, key=order)))


def _score_of(sweep: Sweep) -> str:
    complete = [point.outcome for point in sweep.points if point.is_complete]
    if not complete:
        return sweep.score or _DEFAULT_SCORES[0]
    names = [name for name in complete[0].validation if all(_has(name, outcome.test) for outcome in complete)]
    if sweep.score and sweep.score not in names:
        hint = did_you_mean(sweep.score, names) or f": choose one of {', '.join(names)}"
        raise RequestError(f"score: the points have no {sweep.score} on both validation and test rows{hint}")
    return sweep.score or next(name for name in _DEFAULT_SCORES if name in names)


def _has(name: str, scores: Mapping[str, float]) -> bool:
    return math.isfinite(scores.get(name, math.nan))


def _estimate(scores: Sequence[float]) -> Estimate | None:
    if not scores:
        return None
    half_width = None
    if len(scores) > 1:
        from scipy.stats import t

        half_width = float(t.ppf(0.975, len(scores) - 1)) * statistics.stdev(scores) / math.sqrt(len(scores))
    return Estimate(mean=statistics.fmean(scores), half_width=half_width)


def fields_of(settings: Iterable[Setting]) -> list[str]:
    """Returns the fields of the grid."""
    return list(next(iter(settings)).values)
