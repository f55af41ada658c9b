"""A run that is done: all that is told of it, by metrics.json, the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from src.training.data.rows import Examples
from src.training.evaluation.mcnemar import Comparison
from src.training.evaluation.scoring import Scored


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What went into a run and what came of it.

    Attributes:
        title: name of the recipe.
        resolved: content of recipe.json.
        final: the rows that `before` and `after` were scored on.
        comparison: of before and after, row by row.
        events: content of events.jsonl.
        kept_epoch: the epoch whose weights are kept, counted from 1.
        effort: `train` of metrics.json: times in seconds, memory in bytes.
        environment: versions and the processor's name.
    """

    title: str
    resolved: Mapping[str, Any]
    test: Examples
    before: Scored
    after: Scored
    comparison: Comparison
    events: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    effort: Mapping[str, Any]
    environment: Mapping[str, Any]
