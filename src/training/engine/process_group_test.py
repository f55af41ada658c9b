"""Calls of a process group: results come by rank, errors come through, and no process outlives its use."""

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

from src.training.engine import process_group
from src.training.engine.process_group import ProcessGroup
from src.training.environment.cores import can_fork
from src.training.optimizer.shared_memory import shared_zeros

pytestmark = pytest.mark.skipif(not can_fork(), reason="this system cannot fork processes")

# Longer than any of these tests takes on a busy machine.
MAX_SECONDS = 60

Make = Callable[..., ProcessGroup]


@pytest.fixture(autouse=True)
def no_test_waits_forever() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError(f"still waiting after {MAX_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(MAX_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Share:
    """What a rank can be called for: work, failures and deaths."""

    def __init__(self, rank: int) -> None:
        self.rank, self.calls = rank, 0

    def add(self, number: int) -> int:
        """Returns a number that tells ranks apart."""
        self.calls += 1
        return 10 * self.rank + number

    def count(self) -> int:
        """Returns how often `add` was called in this process."""
        return self.calls

    def process(self) -> int:
        """Returns the process's id."""
        return os.getpid()

    def fail(self, *ranks: int) -> str:
        """Raises an error in some processes."""
        if self.rank in ranks:
            raise ValueError(f"rank {self.rank} stumbled")
        return "fine"

    def end(self, rank: int, how: str) -> None:
        """Ends a process by SIGKILL (`kill`) or with exit code 7 (`exit`)."""
        if self.rank == rank:
            {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "exit": lambda: os._exit(7)}[how]()

    def stand_still(self, rank: int) -> str:
        """Stops a process, until something continues it."""
        if self.rank == rank:
            os.kill(os.getpid(), signal.SIGSTOP)
        return "continued"

    def large(self, size: int) -> str:
        """Returns a long string from every process but the first."""
        return "x" * size if self.rank else ""

    def unfit(self) -> Any:
        """Returns what cannot be pickled from every process but the first."""
        return (lambda: None) if self.rank else None


@pytest.fixture
def make() -> Iterator[Make]:
    """Gives a function that forks processes, by default 3 that each have a `Share`; closes all of them afterwards."""
    groups: list[ProcessGroup] = []

    def make_group(share: Callable[[int], Any] = Share, *, count: int = 3, **more: Any) -> ProcessGroup:
        groups.append(ProcessGroup(share, count=count, **more))
        return groups[-1]

    yield make_group
    for group in groups:
        group.close()


def test_results_come_by_rank(make: Make) -> None:
    group = make()
    assert [group.call("add", number) for number in (1, 2)] == [[1, 11, 21], [2, 12, 22]]
    assert group.call("count") == [2, 2, 2]


def test_each_rank_has_a_process_and_rank_0_is_this_one(make: Make) -> None:
    processes = make().call("process")
    assert processes[0] == os.getpid()
    assert len(set(processes)) == 3


def test_rank_0_is_at_hand(make: Make) -> None:
    group = make()
    group.call("add", 1)
    assert (group.own.rank, group.own.calls) == (0, 1)


def test_one_process_is_not_forked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(RuntimeError) as raised:
        group.call("fail", *ranks)
    assert f"training process {ranks[0]} failed" in str(raised.value)
    assert f"ValueError: rank {ranks[0]} stumbled" in str(raised.value)
    assert 'in fail\n    raise ValueError(f"rank {self.rank} stumbled")' in str(raised.value)
    assert group.call("add", 4) == [4, 14, 24]


@pytest.mark.parametrize("ranks", [(0,), (0, 1)])
def test_a_failure_of_rank_0_leaves_the_others_in_step(make: Make, ranks: tuple[int, ...]) -> None:
    group = make()
    with pytest.raises((ValueError, RuntimeError), match=f"rank {ranks[-1]} stumbled") as raised:
        group.call("fail", *ranks)
    # Where another fails too, its error is raised, with rank 0's as the context.
    assert isinstance(raised.value if ranks == (0,) else raised.value.__context__, ValueError)
    assert group.call("add", 4) == [4, 14, 24]


def test_a_stop_in_rank_0_ends_the_others_at_once() -> None:
    class Stopped(Share):
        def stop(self) -> None:
            if self.rank == 0:
                raise KeyboardInterrupt
            time.sleep(300)

    before = children(), descriptors()
    group = ProcessGroup(Stopped, count=3)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        group.call("stop")
    assert time.monotonic() - began < 60
    assert group.is_closed and (children(), descriptors()) == before
    group.close()


def test_a_missing_method_is_a_failure(make: Make) -> None:
    group = make()
    group.own.dance = lambda: None
    with pytest.raises(RuntimeError, match="dance"):
        group.call("dance")


def test_a_result_that_is_no_message_is_a_failure(make: Make) -> None:
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


def is_alive(process: int) -> bool:
    """Whether a process exists and is not a zombie that its new parent has not reaped yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(*processes: int) -> None:
    while any(is_alive(process) for process in processes):
        time.sleep(0.01)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_killed_process_is_reported_at_once(make: Make, rank: int) -> None:
    group = make()
    victim = group.call("process")[rank]
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=f"training process {rank} was ended by SIGKILL: .* short of memory"):
        group.call("end", rank, "kill")
    assert time.monotonic() - began < 30
    # And so is every later call, until they are closed.
    with pytest.raises(RuntimeError, match=f"training process {rank} was ended by SIGKILL"):
        group.call("add", 1)
    group.close()
    assert not Path(f"/proc/{victim}").exists()


def test_a_process_killed_between_calls_is_told_by_the_next(make: Make) -> None:
    group = make()
    victim = group.call("process")[2]
    os.kill(victim, signal.SIGKILL)
    wait_until_gone(victim)
    with pytest.raises(RuntimeError, match="training process 2 was ended by SIGKILL"):
        group.call("add", 1)


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
    """Child processes, zombies among them."""
    return {int(number) for path in Path("/proc/self/task").glob("*/children") for number in path.read_text().split()}


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_nothing_is_left_when_rank_0_cannot_be_made() -> None:
    def unmade(rank: int) -> Share:
        if rank == 0:
            raise ValueError("no room")
        return Share(rank)

    before = children(), descriptors()
    with pytest.raises(ValueError, match="no room"):
        ProcessGroup(unmade, count=3)
    assert (children(), descriptors()) == before


@pytest.mark.parametrize("called", [False, True])
def test_nothing_is_left_after_close(called: bool) -> None:
    before = children(), descriptors()
    group = ProcessGroup(Share, count=3)
    if called:
        group.call("add", 1)
    processes = children() - before[0]
    assert len(processes) == 2
    group.close()
    assert (children(), descriptors()) == before
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    group.close()
    with pytest.raises(RuntimeError, match="closed"):
        group.call("add", 1)


def test_close_does_not_wait_for_processes_forked_later(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Then they are killed.
    monkeypatch.setattr(process_group, "_CLOSE_SECONDS", 50)
    first, second = make(), make()
    assert second.call("add", 1) == first.call("add", 1)
    began = time.monotonic()
    first.close()
    assert time.monotonic() - began < 30
    assert second.call("add", 2) == [2, 12, 22]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_does_not_end_them(make: Make, number: signal.Signals) -> None:
    group = make()
    for process in group.call("process")[1:]:
        os.kill(process, number)
    assert group.call("add", 1) == [1, 11, 21]


def test_what_was_printed_before_is_printed_once() -> None:
    # To a pipe output is buffered, and a fork copies the buffer.
    printed = run_program("print('once'); more = ProcessGroup(Share, count=3); more.call('speak'); more.close()")
    assert printed.split()[3:] == ["once", "spoken"]


# Without torch, which takes seconds to load.
BEGIN = """
import os, sys, time
from src.training.engine.process_group import ProcessGroup
class Share:
    def __init__(self, rank):
        self.rank = rank
    def process(self):
        return os.getpid()
    def fail(self):
        assert not self.rank
    def speak(self):
        if self.rank == 1:
            print("spoken", flush=True)
    def nap(self):
        time.sleep(1 if self.rank else 60)
group = ProcessGroup(Share, count=3)
print(*group.call("process"), flush=True)
"""


def start_program(program: str) -> subprocess.Popen[str]:
    # If set, there is no buffer to print twice.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(program: str, *, exit_code: int = 0) -> str:
    """Runs a program to its end; returns what it printed."""
    with start_program(program) as process:
        try:
            printed, errors = process.communicate(timeout=MAX_SECONDS - 10)
        finally:
            process.kill()
    assert process.returncode == exit_code, errors
    return printed


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "group = None"])
def test_a_program_that_forgets_to_close_ends_all_the_same(end: str) -> None:
    printed = run_program(end)
    wait_until_gone(*map(int, printed.split()))


def test_a_program_that_fails_ends_all_the_same() -> None:
    printed = run_program("group.call('fail')", exit_code=1)
    wait_until_gone(*map(int, printed.split()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("at_work", [False, True])
def test_when_the_calling_process_is_killed_the_others_end(number: signal.Signals, at_work: bool) -> None:
    with start_program("group.call('nap')" if at_work else "time.sleep(60)") as process:
        assert process.stdout is not None
        processes = [int(word) for word in process.stdout.readline().split()]
        assert len(processes) == 3
        process.send_signal(number)
        process.wait(timeout=MAX_SECONDS - 10)
        began = time.monotonic()
        wait_until_gone(*processes)
        assert time.monotonic() - began < 30


def test_a_stopped_process_is_continued_once_the_run_has_to_end(make: Make) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: stopping.append(number))
    group = make(is_stopping=lambda: bool(stopping))
    # As SIGTERM would come: in the middle of a call that waits for ever.
    with subprocess.Popen(["sh", "-c", f"sleep 1.5; kill -USR1 {os.getpid()}"]):
        began = time.monotonic()
        assert group.call("stand_still", 2) == ["continued"] * 3
    assert time.monotonic() - began > 1.4, "until then it is somebody's wish that it stands still"


def test_a_stopped_process_does_not_hold_up_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "_CLOSE_SECONDS", 50)
    group = make()
    os.kill(group.call("process")[1], signal.SIGSTOP)
    began = time.monotonic()
    group.close()
    assert time.monotonic() - began < 30
