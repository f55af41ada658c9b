"""Where the time of a language model's steps goes, as cProfile counts it: Python's own part looks larger than it is."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from typing import Any

from src.training.engine.data_parallel import DataParallel
from src.training.fused.attention import Layout
from src.training.fused.decoder import Norm
from src.training.fused.linear import Linear, Projection
from src.training.optimizer.optimizer import Optimizer

# None of these calls another one.
_PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "products": (Linear.forward, Linear.backward, Projection.forward, Projection.backward),
    "attention": (Layout.attend, Layout.attend_backward),
    "norms": (Norm.rate, Norm.forward, Norm.backward),
    "optimizer": (Optimizer.publish_gradients, Optimizer.reduce_gradients, Optimizer.step, Optimizer.catch_up),
}


def step_shares(profile: cProfile.Profile) -> dict[str, float]:
    """Returns the share of each part of the steps of a profiled training, and of the rest."""
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]

    def seconds(function: Callable[..., Any]) -> float:
        code = function.__code__
        return float(stats.get((code.co_filename, code.co_firstlineno, code.co_name), (0,) * 4)[3])

    total = seconds(DataParallel.step)
    shares = {part: round(sum(map(seconds, functions)) / total, 3) for part, functions in _PARTS.items()}
    return {**shares, "rest": round(1 - sum(shares.values()), 3)}
