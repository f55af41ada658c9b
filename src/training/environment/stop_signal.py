"""What ends a run early: signals and the deadline."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from src.cli.errors import StopRequested


class StopSignal:
    """SIGINT, SIGTERM and the deadline as one question that the training loop asks.

    Outside the loop a signal raises `StopRequested` at once; inside `deferred` it is only noted, so that
    the loop can save a checkpoint between two steps.
    """

    def __init__(self, *, deadline_seconds: float | None) -> None:
        self._deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._reason: str | None = None
        self._deferred = False

    def install(self) -> None:
        """Takes over SIGINT and SIGTERM of this process. Needs the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.request("interrupted")

    def request(self, reason: str) -> None:
        """Ends the run as a signal does.

        Args:
            reason: for the message to the user.
        """
        self._reason = reason
        if not self._deferred:
            raise StopRequested(reason)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keeps signals from interrupting the block; `status` reports them."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raises StopRequested when the run has to end."""
        if (status := self.status) is not None:
            raise StopRequested(self._reason or status)

    @property
    def status(self) -> str | None:
        """`interrupted`, `stopped_at_deadline`, or None while the run may continue."""
        if self._reason is not None:
            return "interrupted"
        if self._deadline is not None and time.monotonic() > self._deadline:
            return "stopped_at_deadline"
        return None
