"""Processes, one a core, that each do their share of a call."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

log = logging.getLogger(__name__)


def can_fork() -> bool:
    """Whether processes can be forked here. On macOS the system's own libraries do not survive it."""
    return sys.platform == "linux"


class Workers:
    """One object a process, which are called together.

    The first share is done in the calling process, the others in processes forked from it, which see what it held at
    that moment; what they are to see later goes through shared memory. They end when `close` is called or the calling
    process is gone, however it went: then their pipe ends.

    Attributes:
        own: the object that does the first share.
    """

    def __init__(self, make: Callable[[int], Any], *, count: int) -> None:
        """Forks.

        Args:
            make: makes the object that does a rank's share; called in its process.
            count: processes, this one among them.
        """
        context = multiprocessing.get_context("fork" if count > 1 else None)
        pipes = [context.Pipe() for _ in range(count - 1)]
        self._pipes = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(make, rank, pipes), daemon=True)  # type: ignore[attr-defined]
            for rank in range(1, count)
        ]
        for process in self._processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()
        self.own = make(0)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every object at once; returns the results by rank.

        Raises:
            RuntimeError: a process failed or was killed. The workers are of no use after it.
            Exception: what the first share raises, once the others are done.
        """
        for rank, pipe in enumerate(self._pipes, 1):
            self._send(rank, pipe, (method, arguments))
        try:
            own = getattr(self.own, method)(*arguments)
        except BaseException:
            # The answers have to be fetched, or the next call would take them for its own.
            self._answers()
            raise
        return [own, *self._answers()]

    def _answers(self) -> list[Any]:
        return [self._receive(rank, pipe) for rank, pipe in enumerate(self._pipes, 1)]

    def _send(self, rank: int, pipe: Connection, message: Any) -> None:
        try:
            pipe.send(message)
        except OSError:
            raise self._lost(rank) from None

    def _receive(self, rank: int, pipe: Connection) -> Any:
        try:
            failure, result = pipe.recv()
        except (EOFError, OSError):
            raise self._lost(rank) from None
        if failure is not None:
            raise RuntimeError(f"training process {rank} failed:\n{failure}")
        return result

    def _lost(self, rank: int) -> RuntimeError:
        process = self._processes[rank - 1]
        process.join(timeout=5)
        code = process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        hint = ": the machine may be short of memory" if code == -signal.SIGKILL else ""
        return RuntimeError(f"training process {rank} was ended {how}{hint}; the same command goes on from here")

    def close(self) -> None:
        """Ends the processes. The calling process keeps what is shared."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes = [], []


def _serve(make: Callable[[int], Any], rank: int, pipes: list[tuple[Connection, Connection]]) -> None:
    """Answers calls until the pipe ends."""
    # Ctrl-C and a scheduler's SIGTERM reach the whole group; when to stop is the calling process's decision.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for other, (ours, theirs) in enumerate(pipes, 1):
        # An end that stays open here would hide from the others that the calling process is gone.
        ours.close()
        if other != rank:
            theirs.close()
    pipe = pipes[rank - 1][1]
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _answer_calls(make(rank), pipe)
    # No clean-up of what was inherited: the calling process does its own.
    os._exit(0)


def _answer_calls(share: Any, pipe: Connection) -> None:
    while True:
        method, arguments = pipe.recv()
        try:
            answer = (None, getattr(share, method)(*arguments))
        except Exception:
            answer = (traceback.format_exc(), None)
        pipe.send(answer)
