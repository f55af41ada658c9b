"""Workers: results by rank, errors that come through, and no process that outlives its use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.training.shared_memory import shared_zeros
from src.training.workers import Workers, can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
# Longer than anything here takes on a busy machine.
SECONDS = 60


@pytest.fixture(autouse=True)
def no_test_waits_for_ever() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError(f"still waiting after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Share:
    """Work for a rank."""

    def __init__(self, rank: int) -> None:
        self.rank, self.calls = rank, 0

    def add(self, number: int) -> int:
        self.calls += 1
        return 10 * self.rank + number

    def count(self) -> int:
        return self.calls

    def process(self) -> int:
        return os.getpid()

    def fail(self, *ranks: int) -> str:
        if self.rank in ranks:
            raise ValueError(f"rank {self.rank} stumbled")
        return "fine"

    def end(self, rank: int, how: str) -> None:
        if self.rank == rank:
            {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "exit": lambda: os._exit(7)}[how]()

    def large(self, size: int) -> str:
        return "x" * size if self.rank else ""

    def unfit(self) -> Any:
        return (lambda: None) if self.rank else None


Make = Callable[..., Workers]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Workers] = []

    def one(share: Callable[[int], Any] = Share, *, count: int = 3) -> Workers:
        made.append(Workers(share, count=count))
        return made[-1]

    yield one
    for workers in made:
        workers.close()


def is_alive(process: int) -> bool:
    """Whether a process is there and not a zombie that its new parent has not reaped yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(*processes: int) -> None:
    while any(is_alive(process) for process in processes):
        time.sleep(0.01)


def test_results_come_by_rank(make: Make) -> None:
    workers = make()
    assert [workers.call("add", number) for number in (1, 2)] == [[1, 11, 21], [2, 12, 22]]
    assert workers.call("count") == [2, 2, 2]


def test_each_share_has_a_process_and_the_first_is_done_here(make: Make) -> None:
    processes = make().call("process")
    assert processes[0] == os.getpid()
    assert len(set(processes)) == 3


def test_the_first_share_is_at_hand(make: Make) -> None:
    workers = make()
    workers.call("add", 1)
    assert (workers.own.rank, workers.own.calls) == (0, 1)


def test_one_is_not_forked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    workers = make(count=1)
    assert workers.call("add", 5) == [5]
    with pytest.raises(ValueError, match="rank 0 stumbled"):
        workers.call("fail", 0)


def test_shared_memory_is_seen_by_all(make: Make) -> None:
    class Writer(Share):
        memory = shared_zeros(3)

        def write(self, value: float) -> float:
            self.memory[self.rank] = self.rank + value
            return float(self.memory[0])

    workers = make(Writer)
    workers.call("write", 0.5)
    assert Writer.memory.tolist() == [0.5, 1.5, 2.5]
    Writer.memory[0] = 7
    workers.own.rank = 1
    assert workers.call("write", 1.0)[1:] == [7, 7]


def test_a_message_may_take_long(make: Make) -> None:
    class Slow(Share):
        def sleep(self) -> int:
            time.sleep(0.05 * self.rank)
            return self.rank

    assert make(Slow).call("sleep") == [0, 1, 2]


@pytest.mark.parametrize("ranks", [(1,), (2,), (1, 2)])
def test_a_failure_comes_with_its_traceback_and_the_next_call_is_right(make: Make, ranks: tuple[int, ...]) -> None:
    workers = make()
    with pytest.raises(RuntimeError) as told:
        workers.call("fail", *ranks)
    assert f"training process {ranks[0]} failed" in str(told.value)
    assert f"ValueError: rank {ranks[0]} stumbled" in str(told.value)
    assert 'in fail\n    raise ValueError(f"rank {self.rank} stumbled")' in str(told.value)
    assert workers.call("add", 4) == [4, 14, 24]


@pytest.mark.parametrize("ranks", [(0,), (0, 1)])
def test_a_failure_of_the_first_share_leaves_the_others_in_step(make: Make, ranks: tuple[int, ...]) -> None:
    workers = make()
    with pytest.raises((ValueError, RuntimeError), match=f"rank {ranks[-1]} stumbled") as told:
        workers.call("fail", *ranks)
    # Where another fails too, that is told, and the first one's own as its context.
    assert isinstance(told.value if ranks == (0,) else told.value.__context__, ValueError)
    assert workers.call("add", 4) == [4, 14, 24]


def test_a_stop_in_the_first_share_leaves_the_others_in_step(make: Make) -> None:
    class Stopped(Share):
        def stop(self) -> None:
            if self.rank == 0:
                raise KeyboardInterrupt

    workers = make(Stopped)
    with pytest.raises(KeyboardInterrupt):
        workers.call("stop")
    assert workers.call("add", 4) == [4, 14, 24]


def test_a_method_that_is_not_there_is_a_failure(make: Make) -> None:
    workers = make()
    workers.own.dance = lambda: None
    with pytest.raises(RuntimeError, match="dance"):
        workers.call("dance")


def test_what_cannot_be_told_is_a_failure(make: Make) -> None:
    workers = make()
    with pytest.raises(RuntimeError, match="pickle"):
        workers.call("unfit")
    for size in (70_000, 1_000_000):
        with pytest.raises(RuntimeError, match="more than a message holds"):
            workers.call("large", size)
    assert len(workers.call("large", 60_000)[2]) == 60_000


def test_a_long_traceback_is_cut_at_its_start(make: Make) -> None:
    class Wordy(Share):
        def speak(self) -> None:
            if self.rank:
                raise ValueError("\N{SNOWMAN}" * 100_000 + " the end")

    workers = make(Wordy)
    with pytest.raises(RuntimeError, match="the end"):
        workers.call("speak")
    assert workers.call("add", 1) == [1, 11, 21]


@pytest.mark.parametrize("rank", [1, 2])
def test_a_killed_process_is_told_at_once(make: Make, rank: int) -> None:
    workers = make()
    victim = workers.call("process")[rank]
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=f"training process {rank} was ended by SIGKILL: .* short of memory"):
        workers.call("end", rank, "kill")
    assert time.monotonic() - began < 10
    # And again, whatever is asked next, until they are closed.
    with pytest.raises(RuntimeError, match=f"training process {rank} was ended by SIGKILL"):
        workers.call("add", 1)
    workers.close()
    assert not Path(f"/proc/{victim}").exists()


def test_a_process_killed_between_calls_is_told_by_the_next(make: Make) -> None:
    workers = make()
    victim = workers.call("process")[2]
    os.kill(victim, signal.SIGKILL)
    wait_until_gone(victim)
    with pytest.raises(RuntimeError, match="training process 2 was ended by SIGKILL"):
        workers.call("add", 1)


def test_a_process_that_exits_is_told_with_its_exit_code(make: Make) -> None:
    with pytest.raises(RuntimeError, match="training process 1 was ended with exit code 7"):
        make().call("end", 1, "exit")


def test_a_share_that_cannot_be_made_is_told(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    def unmade(rank: int) -> Share:
        if rank == 2:
            raise ValueError("no room")
        return Share(rank)

    with pytest.raises(RuntimeError, match="training process 2 was ended with exit code 1"):
        make(unmade).call("add", 1)
    assert "ValueError: no room" in capfd.readouterr().err


def children() -> set[int]:
    """Processes forked from here that are there, zombies among them."""
    return {int(number) for path in Path("/proc/self/task").glob("*/children") for number in path.read_text().split()}


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_nothing_is_left_when_the_own_share_cannot_be_made() -> None:
    def unmade(rank: int) -> Share:
        if rank == 0:
            raise ValueError("no room")
        return Share(rank)

    before = children(), descriptors()
    with pytest.raises(ValueError, match="no room"):
        Workers(unmade, count=3)
    assert (children(), descriptors()) == before


@pytest.mark.parametrize("called", [False, True])
def test_nothing_is_left_after_close(called: bool) -> None:
    before = children(), descriptors()
    workers = Workers(Share, count=3)
    if called:
        workers.call("add", 1)
    processes = children() - before[0]
    assert len(processes) == 2
    workers.close()
    assert (children(), descriptors()) == before
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        workers.call("add", 1)


def test_close_does_not_wait_for_workers_forked_later(make: Make) -> None:
    first, second = make(), make()
    assert second.call("add", 1) == first.call("add", 1)
    began = time.monotonic()
    first.close()
    # Else they are killed after 10 s.
    assert time.monotonic() - began < 5
    assert second.call("add", 2) == [2, 12, 22]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_does_not_end_them(make: Make, number: signal.Signals) -> None:
    workers = make()
    for process in workers.call("process")[1:]:
        os.kill(process, number)
    assert workers.call("add", 1) == [1, 11, 21]


def test_what_was_printed_before_is_printed_once() -> None:
    # To a pipe output is buffered, and a fork copies the buffer.
    printed = run_program("print('once'); more = Workers(Share, count=3); more.call('process'); more.close()")
    assert printed.split()[3:] == ["once"]


# Without torch, which takes seconds to load.
BEGIN = """
import os, sys, time
from src.training.workers import Workers
class Share:
    def __init__(self, rank):
        self.rank = rank
    def process(self):
        return os.getpid()
    def fail(self):
        assert not self.rank
    def nap(self):
        time.sleep(1 if self.rank else 60)
workers = Workers(Share, count=3)
print(*workers.call("process"), flush=True)
"""


def start_program(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(program: str, *, exit_code: int = 0) -> str:
    """Runs a program to its end; returns what it printed."""
    with start_program(program) as process:
        try:
            printed, errors = process.communicate(timeout=SECONDS - 10)
        finally:
            process.kill()
    assert process.returncode == exit_code, errors
    return printed


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "workers = None"])
def test_a_program_that_forgets_to_close_ends_all_the_same(end: str) -> None:
    printed = run_program(end)
    wait_until_gone(*map(int, printed.split()))


def test_a_program_that_fails_ends_all_the_same() -> None:
    printed = run_program("workers.call('fail')", exit_code=1)
    wait_until_gone(*map(int, printed.split()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("at_work", [False, True])
def test_when_the_calling_process_is_killed_the_others_end(number: signal.Signals, at_work: bool) -> None:
    with start_program("workers.call('nap')" if at_work else "time.sleep(60)") as process:
        assert process.stdout is not None
        processes = [int(word) for word in process.stdout.readline().split()]
        assert len(processes) == 3
        process.send_signal(number)
        process.wait(timeout=SECONDS - 10)
        began = time.monotonic()
        wait_until_gone(*processes)
        assert time.monotonic() - began < 10
