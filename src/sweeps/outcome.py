"""What came of one point of a sweep: scores, or the sentence that says why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

COMPLETE, REFUSED, DIVERGED = "complete", "refused", "diverged"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The same for each training of a point.

    Attributes:
        status: complete, refused or diverged.
        message: one sentence, where there are no scores.
        validation: name -> score of the kept epoch, on rows that may choose among models.
        test: name -> score, on rows that choose nothing.
    """

    status: str
    message: str = ""
    validation: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as they are written."""
        return asdict(self)


def refused(message: str) -> Outcome:
    """Returns the outcome of a point that cannot be trained as it is."""
    return Outcome(status=REFUSED, message=message)


def outcome_of(metrics: Mapping[str, Any]) -> Outcome:
    """Returns the outcome of a training, by its metrics.json."""
    if metrics["validation"] is None:
        return refused("no validation rows to choose by: give validation_data, or validation_fraction above 0")
    validation, test = _scores(metrics["validation"]), _scores(metrics["after"])
    if not math.isfinite(test.get("loss", math.nan)):
        return Outcome(status=DIVERGED, message="the loss is not a number after training: lower learning_rate")
    return Outcome(status=COMPLETE, validation=validation, test=test)


def _scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
