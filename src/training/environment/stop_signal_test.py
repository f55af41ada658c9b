"""Signals and the deadline."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from src.cli.errors import StopRequested
from src.training.environment import stop_signal
from src.training.environment.stop_signal import StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    """Has taken over this process's signals; they are given back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = StopSignal(deadline_seconds=None)
    taken.install()
    yield taken
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_program_where_it_stands(stop: StopSignal, number: signal.Signals) -> None:
    with pytest.raises(StopRequested, match="interrupted"):
        os.kill(os.getpid(), number)
    assert stop.status == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_deferred_block_is_told_when_asked(stop: StopSignal, number: signal.Signals) -> None:
    done = []
    with pytest.raises(StopRequested, match="interrupted"), stop.deferred():
        os.kill(os.getpid(), number)
        done.append("the step")
        stop.check()
    assert done == ["the step"]


def test_after_a_deferred_block_signals_stop_at_once_again(stop: StopSignal) -> None:
    with stop.deferred():
        pass
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), signal.SIGTERM)


def test_no_library_can_swallow_a_stop() -> None:
    assert not issubclass(StopRequested, Exception)


def test_a_deadline_stops_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stop_signal.time, "monotonic", lambda: now)
    stop = StopSignal(deadline_seconds=5)
    now = 104.9
    stop.check()
    assert stop.status is None
    now = 105.1
    with pytest.raises(StopRequested, match="stopped_at_deadline"):
        stop.check()


def test_without_deadline_or_signal_nothing_stops() -> None:
    StopSignal(deadline_seconds=None).check()
