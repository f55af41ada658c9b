"""How many cores a run may use, and how they are shared out among processes and threads."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

# A count that laptops and executors alike have: unlike machines are to agree on the bits.
_PORTABLE_THREADS = 2
# With fewer rows a process spends more on its own overhead than it takes from the others.
_ROWS_A_PROCESS = 2
# Matrices of smaller models than BERT base and its kind are slower in two threads than in one: bert-tiny with 4 rows a
# step took 11.2 ms against 5.4.
_LARGE_MODEL = 60_000_000
# Gradients of all processes. A model that is too large for one a core has matrices that threads can divide.
_MOST_GRADIENT_BYTES = 2 << 30
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def can_fork() -> bool:
    """Whether processes can be forked here. On macOS the system's own libraries do not survive it."""
    return sys.platform == "linux"


def available_cores() -> int:
    """Returns how many cores this process may use: affinity mask and cgroup quota, not the host's count."""
    # macOS has no affinity mask.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.floor(int(quota) / int(period))))


def resolve_threads(threads: int | None, *, reproducible: str) -> int:
    """Returns the thread count of a run. It decides the order of sums, and with it the last bits."""
    if threads is not None:
        return threads
    return _PORTABLE_THREADS if reproducible == "portable" else available_cores()


def plan_processes(threads: int, *, batch_size: int, weights: int) -> tuple[int, int]:
    """Returns how many processes train, and the threads of each: as many processes as pay, and never more than asked.

    A function of the run alone: it decides the order of sums, and with it the last bits.

    Args:
        threads: of the run; a small model with few rows a step leaves some of them idle.
        batch_size: rows of a step, which the processes share.
        weights: numbers in the model; each process has gradients for all of them.
    """
    if not can_fork():
        return 1, threads
    fitting = _MOST_GRADIENT_BYTES // max(1, 4 * weights)
    processes = max(1, min(threads, batch_size // _ROWS_A_PROCESS, fitting))
    return processes, threads // processes if weights >= _LARGE_MODEL else 1
