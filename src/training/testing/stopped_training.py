"""A training that is stopped in the middle, at the same step each time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from src.training.engine.data_parallel import DataParallel


@contextmanager
def stopped_after(last: int, *, by: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Trainings of this process get a signal after a step, counted from 0."""
    from src.training.engine.data_parallel import DataParallel

    step = DataParallel.step

    def step_and_interrupt(self: DataParallel, number: int) -> tuple[float, float]:
        result = step(self, number)
        if number == last:
            signal.raise_signal(by)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataParallel, "step", step_and_interrupt)
        yield
