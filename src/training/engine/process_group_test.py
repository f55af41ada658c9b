"""Calls of a process group: results come by rank, and errors come through."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from src.training.environment.cores import can_fork
from src.training.optimizer.shared_memory import shared_zeros
from src.training.testing.worker_samples import Make, Share, group_maker, time_limit

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


@pytest.fixture(autouse=True)
def no_test_waits_for_ever() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture
def make() -> Iterator[Make]:
    with group_maker() as make:
        yield make


def test_results_come_by_rank(make: Make) -> None:
    group = make()
    assert [group.call("add", number) for number in (1, 2)] == [[1, 11, 21], [2, 12, 22]]
    assert group.call("count") == [2, 2, 2]


def test_each_share_has_a_process_and_the_first_is_done_here(make: Make) -> None:
    processes = make().call("process")
    assert processes[0] == os.getpid()
    assert len(set(processes)) == 3


def test_the_first_share_is_at_hand(make: Make) -> None:
    group = make()
    group.call("add", 1)
    assert (group.own.rank, group.own.calls) == (0, 1)


def test_one_is_not_forked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    group = make(count=1)
    assert group.call("add", 5) == [5]
    with pytest.raises(ValueError, match="rank 0 stumbled"):
        group.call("fail", 0)


def test_shared_memory_is_seen_by_all(make: Make) -> None:
    class Writer(Share):
        memory = shared_zeros(3)

        def write(self, value: float) -> float:
            self.memory[self.rank] = self.rank + value
            return float(self.memory[0])

    group = make(Writer)
    group.call("write", 0.5)
    assert Writer.memory.tolist() == [0.5, 1.5, 2.5]
    Writer.memory[0] = 7
    group.own.rank = 1
    assert group.call("write", 1.0)[1:] == [7, 7]


def test_a_message_may_take_long(make: Make) -> None:
    class Slow(Share):
        def sleep(self) -> int:
            time.sleep(0.05 * self.rank)
            return self.rank

    assert make(Slow).call("sleep") == [0, 1, 2]


@pytest.mark.parametrize("ranks", [(1,), (2,), (1, 2)])
def test_a_failure_comes_with_its_traceback_and_the_next_call_is_right(make: Make, ranks: tuple[int, ...]) -> None:
    group = make()
    with pytest.raises(RuntimeError) as told:
        group.call("fail", *ranks)
    assert f"training process {ranks[0]} failed" in str(told.value)
    assert f"ValueError: rank {ranks[0]} stumbled" in str(told.value)
    assert 'in fail\n    raise ValueError(f"rank {self.rank} stumbled")' in str(told.value)
    assert group.call("add", 4) == [4, 14, 24]


@pytest.mark.parametrize("ranks", [(0,), (0, 1)])
def test_a_failure_of_the_first_share_leaves_the_others_in_step(make: Make, ranks: tuple[int, ...]) -> None:
    group = make()
    with pytest.raises((ValueError, RuntimeError), match=f"rank {ranks[-1]} stumbled") as told:
        group.call("fail", *ranks)
    # Where another fails too, that is told, and the first one's own as its context.
    assert isinstance(told.value if ranks == (0,) else told.value.__context__, ValueError)
    assert group.call("add", 4) == [4, 14, 24]


def test_a_stop_in_the_first_share_leaves_the_others_in_step(make: Make) -> None:
    class Stopped(Share):
        def stop(self) -> None:
            if self.rank == 0:
                raise KeyboardInterrupt

    group = make(Stopped)
    with pytest.raises(KeyboardInterrupt):
        group.call("stop")
    assert group.call("add", 4) == [4, 14, 24]


def test_a_method_that_is_not_there_is_a_failure(make: Make) -> None:
    group = make()
    group.own.dance = lambda: None
    with pytest.raises(RuntimeError, match="dance"):
        group.call("dance")


def test_what_cannot_be_told_is_a_failure(make: Make) -> None:
    group = make()
    with pytest.raises(RuntimeError, match="pickle"):
        group.call("unfit")
    for size in (70_000, 1_000_000):
        with pytest.raises(RuntimeError, match="more than a message holds"):
            group.call("large", size)
    assert len(group.call("large", 60_000)[2]) == 60_000


def test_a_long_traceback_is_cut_at_its_start(make: Make) -> None:
    class Wordy(Share):
        def speak(self) -> None:
            if self.rank:
                raise ValueError("\N{SNOWMAN}" * 100_000 + " the end")

    group = make(Wordy)
    with pytest.raises(RuntimeError, match="the end"):
        group.call("speak")
    assert group.call("add", 1) == [1, 11, 21]
