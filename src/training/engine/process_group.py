"""Forked processes that each do their share of every call."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

# Waking a sleeping process takes some 0.1 ms, three times a step of a few ms: the others are usually done before that.
_SPIN_SECONDS = 0.0005
# How often a call that takes longer looks whether the run has to end.
_WAIT_MILLISECONDS = 1000
# What a process that is to end may take; then it is killed.
_CLOSE_SECONDS = 10
# A message is a method's name and a few numbers, or a traceback.
_MAX_MESSAGE_BYTES = 1 << 16
# macOS has it from Python 3.13 on only, but nothing is forked there: cores.can_fork.
_waitid: Any = getattr(os, "waitid", None)


class ProcessGroup:
    """One object per process; a call goes to all of them.

    Rank 0 is in the calling process, the others in processes forked from it, which see what it held at that moment;
    later changes go through shared memory. They end when `close` is called or the calling process is gone, for
    whatever reason: then their pipe is closed.

    Attributes:
        own: the object of rank 0.
        is_closed: whether `close` was called.
    """

    def __init__(
        self, make: Callable[[int], Any], *, count: int, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Forks.

        Args:
            make: makes a rank's object; called in its process.
            count: processes, including this one.
            is_stopping: whether the run has to end: a process that something has stopped (SIGSTOP) is then continued,
                as the call that it is in would never return.
        """
        self._is_stopping = is_stopping
        pipes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count - 1)]
        self._pipes = [ours for ours, _ in pipes]
        self.is_closed = False
        self._processes: list[int] = []
        try:
            for rank in range(1, count):
                self._processes.append(_fork(functools.partial(_serve, make, rank, pipes)))
            self.own = make(0)
        except BaseException:
            self.close()
            raise
        finally:
            for _, theirs in pipes:
                theirs.close()

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every object at once; returns the results by rank.

        Raises:
            RuntimeError: a process failed, with its traceback; the group stays usable. Or a process is gone: the
                group is unusable after it, as after `close`.
            Exception: what rank 0 raises, once the others are done.
            BaseException: what ends the run, such as Ctrl-C, at once: the group is closed.
        """
        if self.is_closed:
            raise RuntimeError("the training processes are closed")
        try:
            return self._call(method, arguments)
        except BaseException as error:
            if not isinstance(error, Exception):
                # The run ends: nothing waits for what the others are at.
                self._kill()
            raise

    def _call(self, method: str, arguments: tuple[Any, ...]) -> list[Any]:
        for rank, pipe in enumerate(self._pipes, 1):
            self._send(rank, pipe, (method, arguments))
        try:
            own = getattr(self.own, method)(*arguments)
        except Exception:
            # Unread answers would be taken for the next call's.
            self._answers()
            raise
        return [own, *self._answers()]

    def _answers(self) -> list[Any]:
        answers = [self._receive(rank, pipe) for rank, pipe in enumerate(self._pipes, 1)]
        for rank, (failure, _) in enumerate(answers, 1):
            if failure is not None:
                raise RuntimeError(f"training process {rank} failed:\n{failure}")
        return [result for _, result in answers]

    def _send(self, rank: int, pipe: socket.socket, message: Any) -> None:
        try:
            pipe.send(pickle.dumps(message))
        except OSError:
            raise self._lost(rank) from None

    def _receive(self, rank: int, pipe: socket.socket) -> tuple[str | None, Any]:
        """Returns a process's traceback, or None, and its result."""
        try:
            answer: tuple[str | None, Any] = _receive(pipe, wait=functools.partial(self._wait, rank))
        except (EOFError, OSError):
            raise self._lost(rank) from None
        return answer

    def _wait(self, rank: int, pipe: socket.socket) -> None:
        """Waits until a process answers."""
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while not poll.poll(_WAIT_MILLISECONDS):
            if self._is_stopping():
                os.kill(self._processes[rank - 1], signal.SIGCONT)

    def _lost(self, rank: int) -> RuntimeError:
        code = _exit_code(self._processes[rank - 1], seconds=5)
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        hint = ": the machine may be short of memory" if code == -signal.SIGKILL else ""
        return RuntimeError(f"training process {rank} was ended {how}{hint}; rerun the command to resume")

    def _kill(self) -> None:
        for process in self._processes:
            os.kill(process, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Ends the processes. Shared memory stays."""
        for pipe in self._pipes:
            # Processes forked later have copies of this end: closing it alone would not be noticed.
            with contextlib.suppress(OSError):
                pipe.shutdown(socket.SHUT_RDWR)
            pipe.close()
        for process in self._processes:
            # One that something has stopped would not notice.
            os.kill(process, signal.SIGCONT)
            if _exit_code(process, seconds=_CLOSE_SECONDS) is None:
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._pipes, self._processes, self.is_closed = [], [], True


def _fork(run: Callable[[], None]) -> int:
    """Runs a function in a process forked from this one; returns its id.

    Not multiprocessing's Process: at the exit of a program that forgot `close` it would send SIGTERM, which is ignored
    here, and wait forever.
    """
    # Both processes would write what is buffered.
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if not process:
        try:
            run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        # The calling process cleans up what was inherited.
        os._exit(0)
    return process


def _exit_code(process: int, *, seconds: float) -> int | None:
    """Waits for a process; returns its exit code, -n for signal n, or None if it still runs. Leaves the zombie."""
    end = time.monotonic() + seconds
    while True:
        ended = _waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        if time.monotonic() > end:
            return None
        time.sleep(0.01)


def _serve(make: Callable[[int], Any], rank: int, pipes: list[tuple[socket.socket, socket.socket]]) -> None:
    """Answers calls until the pipe ends."""
    # Ctrl-C and a scheduler's SIGTERM reach the whole group; the calling process decides when to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for other, (ours, theirs) in enumerate(pipes, 1):
        # An end left open would hide from the others that the calling process is gone.
        ours.close()
        if other != rank:
            theirs.close()
    pipe = pipes[rank - 1][1]
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _answer_calls(make(rank), pipe)


def _answer_calls(share: Any, pipe: socket.socket) -> None:
    while True:
        method, arguments = _receive(pipe)
        pipe.send(_answer(share, method, arguments))


def _answer(share: Any, method: str, arguments: tuple[Any, ...]) -> bytes:
    try:
        message = pickle.dumps((None, getattr(share, method)(*arguments)))
        if len(message) > _MAX_MESSAGE_BYTES:
            raise ValueError(f"{method} returned {len(message):,} bytes: more than a message holds")
    except Exception:
        # A character may take 4 bytes.
        message = pickle.dumps((traceback.format_exc()[-_MAX_MESSAGE_BYTES // 8 :], None))
    return message


def _receive(pipe: socket.socket, *, wait: Callable[[socket.socket], None] = lambda _pipe: None) -> Any:
    """Returns the next message.

    Args:
        pipe: the end to read.
        wait: returns once there is a message; called if it does not come soon.

    Raises:
        EOFError: the other end is gone.
    """
    end = time.monotonic() + _SPIN_SECONDS
    message = None
    while message is None and time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            message = pipe.recv(_MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT)
    if message is None:
        wait(pipe)
        message = pipe.recv(_MAX_MESSAGE_BYTES)
    if not message:
        raise EOFError
    return pickle.loads(message)
