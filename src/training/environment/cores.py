"""How many cores a run may use, and how they are split into processes and threads."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

# Laptops and executors alike have that many, and different machines are to produce the same bits.
_PORTABLE_THREADS = 2
# With fewer rows a process costs more than it saves.
MIN_ROWS_PER_PROCESS = 2
# Parameters, somewhat below BERT base's. The matrices of smaller models are slower on two threads than on one:
# bert-tiny with 4 rows a step took 11.2 ms against 5.4.
_LARGE_MODEL = 60_000_000
# Gradients of all processes. A model that is too large for one a core has matrices that threads can divide.
_MAX_GRADIENT_BYTES = 2 << 30
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def can_fork() -> bool:
    """Whether this system can fork processes. On macOS the system's own libraries do not survive it."""
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
    """Returns the thread count of a run. It decides the order of sums, and with it the last bits.

    Args:
        threads: as asked for; None: two if portable, else one per core.
        reproducible: as in the recipe.
    """
    if threads is not None:
        return threads
    return _PORTABLE_THREADS if reproducible == "portable" else available_cores()


def plan_processes(
    threads: int, *, batch_size: int, weights: int, min_rows_per_process: int = MIN_ROWS_PER_PROCESS
) -> tuple[int, int]:
    """Returns the number of training processes and the threads of each, together at most `threads`.

    One process per thread where each gets enough rows and gradients for them all fit; only large models use more
    threads than processes, so a small model with few rows a step leaves threads idle. A function of the run alone: it
    decides the order of sums, and with it the last bits.

    Args:
        threads: of the run.
        batch_size: rows of a step, which the processes share.
        weights: parameters that are trained; each process has gradients for all of them.
        min_rows_per_process: of a step.
    """
    if not can_fork():
        return 1, threads
    fitting = _MAX_GRADIENT_BYTES // max(1, 4 * weights)
    processes = max(1, min(threads, batch_size // min_rows_per_process, fitting))
    return processes, threads // processes if weights >= _LARGE_MODEL else 1
