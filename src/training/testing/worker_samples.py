"""Work for processes to do, to fail at and to die of: for tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from src.training.engine.process_group import ProcessGroup

# Longer than anything in those tests takes on a busy machine.
SECONDS = 60

Make = Callable[..., ProcessGroup]


@contextmanager
def time_limit() -> Iterator[None]:
    """Ends a test that would wait for ever. Needs the main thread."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"still waiting after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Share:
    """Work for a rank."""

    def __init__(self, rank: int) -> None:
        """Takes the rank."""
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

    def large(self, size: int) -> str:
        """Returns a long string from every process but the first."""
        return "x" * size if self.rank else ""

    def unfit(self) -> Any:
        """Returns what cannot be pickled from every process but the first."""
        return (lambda: None) if self.rank else None


@contextmanager
def group_maker() -> Iterator[Make]:
    """Gives a function that forks processes, by default 3 that do a `Share`; closes all of them afterwards."""
    made: list[ProcessGroup] = []

    def one(share: Callable[[int], Any] = Share, *, count: int = 3) -> ProcessGroup:
        made.append(ProcessGroup(share, count=count))
        return made[-1]

    yield one
    for workers in made:
        workers.close()
