"""How workers end: killed, closed or forgotten, none outlives its use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.training.engine.process_group import ProcessGroup
from src.training.environment.cores import can_fork
from src.training.testing.worker_samples import SECONDS, Make, Share, group_maker, time_limit

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


@pytest.fixture(autouse=True)
def no_test_waits_for_ever() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture
def make() -> Iterator[Make]:
    with group_maker() as make:
        yield make


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


@pytest.mark.parametrize("rank", [1, 2])
def test_a_killed_process_is_told_at_once(make: Make, rank: int) -> None:
    group = make()
    victim = group.call("process")[rank]
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=f"training process {rank} was ended by SIGKILL: .* short of memory"):
        group.call("end", rank, "kill")
    assert time.monotonic() - began < 10
    # And again, whatever is asked next, until they are closed.
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
    group = make()
    for process in group.call("process")[1:]:
        os.kill(process, number)
    assert group.call("add", 1) == [1, 11, 21]


def test_what_was_printed_before_is_printed_once() -> None:
    # To a pipe output is buffered, and a fork copies the buffer.
    printed = run_program("print('once'); more = ProcessGroup(Share, count=3); more.call('tell'); more.close()")
    assert printed.split()[3:] == ["once", "told"]


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
    def tell(self):
        if self.rank == 1:
            print("told", flush=True)
    def nap(self):
        time.sleep(1 if self.rank else 60)
workers = ProcessGroup(Share, count=3)
print(*workers.call("process"), flush=True)
"""


def start_program(program: str) -> subprocess.Popen[str]:
    # With it there is no buffer to print twice.
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
