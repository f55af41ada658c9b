"""How much memory a piece of work takes at its peak, in this process and those that it forks."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path

import psutil

_SECONDS = 0.1


class MemoryPeak:
    """Context manager. What it watches should not be timed: a look walks over all pages, and halts their faults.

    Attributes:
        bytes: the most that this process and its children held at once, above what they held before. A page that
            several of them share counts once.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryPeak:
        gc.collect()
        # What was freed goes back to the system, so that the next work does not have it for nothing.
        ctypes.CDLL(None).malloc_trim(0)
        self._before = _held()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            self.bytes = max(self.bytes, _held() - self._before)


def _held() -> int:
    own = psutil.Process()
    return sum(_proportional_set(process.pid) for process in (own, *own.children(recursive=True)))


def _proportional_set(process: int) -> int:
    """Returns bytes, 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
