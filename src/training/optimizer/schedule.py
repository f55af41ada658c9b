"""The learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate by step, from 0: linear warm-up to the peak, then down to 0 or constant.

    Attributes:
        kind: linear, cosine or constant.
        warmup_ratio: fraction of the steps used for warm-up.
        steps: of the whole run.
    """

    kind: str
    peak: float
    warmup_ratio: float
    steps: int

    def __call__(self, step: int) -> float:
        warmup = math.ceil(self.warmup_ratio * self.steps)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        if self.kind == "linear":
            return self.peak * (1 - done)
        if self.kind == "cosine":
            return self.peak * 0.5 * (1 + math.cos(math.pi * done))
        return self.peak
