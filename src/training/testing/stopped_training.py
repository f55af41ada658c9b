"""A training that is stopped in the middle, at the same step each time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from src.training.engine.data_parallel import DataParallel


@contextmanager
def stopped_after(last: int) -> Iterator[None]:
    """Trainings of this process get SIGTERM after a step, counted from 0."""
    step = DataParallel.step

    def step_and_interrupt(self: DataParallel, number: int) -> tuple[float, float]:
        result = step(self, number)
        if number == last:
            signal.raise_signal(signal.SIGTERM)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataParallel, "step", step_and_interrupt)
        yield
