"""How long a server has been idle."""

from __future__ import annotations

import threading
import time
from types import TracebackType


class Activity:
    """A context manager that each call enters, from any number of threads."""

    def __init__(self) -> None:
        """Starts idle."""
        self._lock = threading.Lock()
        self._calls = 0
        self._last = time.monotonic()

    def __enter__(self) -> None:
        """A call begins."""
        with self._lock:
            self._calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The call ends."""
        with self._lock:
            self._calls -= 1
            self._last = time.monotonic()

    def idle_seconds(self) -> float:
        """Returns the time since the last call ended; 0 during a call."""
        with self._lock:
            return 0.0 if self._calls else time.monotonic() - self._last
