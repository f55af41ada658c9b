"""Standard output that is closed, full, or read by nobody any more."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO


def open_closed_streams() -> bool:
    """Connects closed standard streams to /dev/null; returns whether standard output was closed.

    Otherwise the next file opened would get the stream's number, and what a library prints would go into that file.
    """
    was_closed = sys.stdout is None
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if not _is_open(number):
                os.dup2(null, number)
                os.close(null)
                null = number
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8", closefd=False))
    return was_closed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def is_unread() -> bool:
    """Whether the other end of standard output's pipe is closed."""
    poll = select.poll()
    try:
        poll.register(sys.stdout, 0)
    except (OSError, ValueError):
        # A test has replaced it by something without a descriptor.
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


@contextlib.contextmanager
def standard_output_to(path: Path) -> Iterator[None]:
    """Sends what this process and its children print, libraries in C++ too, to a file."""
    sys.stdout.flush()
    usual = os.dup(1)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(usual, 1)
        os.close(usual)


def discard(stream: TextIO) -> None:
    """Sends what a stream still holds, and all that follows, to /dev/null: it cannot be written where it should go."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def flush_or_discard() -> None:
    """Flushes standard output. If that fails, Python is kept from trying again, and complaining, when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)


def write_result(text: str) -> None:
    """Writes what must not be lost to standard output; to standard error if that cannot be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)
        sys.stderr.write(text)


class OutputHandler(logging.StreamHandler[TextIO]):
    """Sends log lines to standard output as they are; drops them once one could not be written."""

    def __init__(self, when_lost: Callable[[str], None] = lambda _reason: None) -> None:
        """Takes today's standard output.

        Args:
            when_lost: called once, with the reason, when a line cannot be written. May raise a BaseException.
        """
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(message)s"))
        self._when_lost = when_lost

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Reports a stream that failed, not each line; logging itself would print a traceback for each."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        discard(self.stream)
        reason = "nobody reads it any more" if isinstance(error, BrokenPipeError) else str(error.strerror)
        self._when_lost(f"standard output: {reason}")
