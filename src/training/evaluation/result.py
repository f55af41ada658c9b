"""A finished run: all that metrics.json, the report and the model card are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from src.training.data.rows import Examples
from src.training.evaluation.comparison import Comparison
from src.training.evaluation.problem import Problem, Scored


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What went into a run and what came of it.

    Attributes:
        title: name of the recipe.
        resolved: content of recipe.json.
        test: the examples that `before` and `after` were scored on.
        comparison: of before and after, example by example.
        events: content of events.jsonl.
        kept_epoch: the epoch whose weights are kept, counted from 1.
        effort: `train` of metrics.json: times in seconds, memory in bytes.
        environment: versions and the processor's name.
    """

    title: str
    resolved: Mapping[str, Any]
    problem: Problem
    test: Examples
    before: Scored
    after: Scored
    comparison: Comparison
    events: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    effort: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def validation(self) -> Mapping[str, Any]:
        """What recipe.json says of the examples that are scored after each epoch: their split, rows and hash."""
        data: Mapping[str, Any] = self.resolved["inputs"]["data"]["validation"]
        return data
