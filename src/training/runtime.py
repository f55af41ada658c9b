"""What a run may use and how it ends: cores, instruction set, determinism, signals and the deadline."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from src.training.errors import RequestError, StopRequested
from src.training.recipe import Recipe
from src.training.workers import can_fork

# A count that laptops and executors alike have: unlike machines are to agree on the bits.
_PORTABLE_THREADS = 2
# The floor of `portable`: every x86-64 server since 2015 has AVX2. Each library reads its own name for it.
_PORTABLE_ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # Not AVX2: on other makers' CPUs MKL takes that for AUTO, without a word, and only this gives the same bits on all
    # (oneMKL Developer Guide, "Specifying Code Branches"). Its SSE2 products cost a fifth to a third of a step.
    "MKL_CBWR": "COMPATIBLE",
    # numpy's: with this, OpenBLAS runs the same kernels on every CPU that has AVX2, at full speed.
    "OPENBLAS_CORETYPE": "Haswell",
}
# libgomp's threads wait for one another by spinning, by default 300,000 times. With a neighbour on one of 2 cores a
# step of bert-tiny then took 613 ms; with this count it took 35 to 46, and on quiet cores 16 instead of 14.5.
# numpy's products are a process's own work; OpenBLAS would start a thread a core in each.
_THREADS_ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "OPENBLAS_NUM_THREADS": "1"}
# With fewer rows a process spends more on its own overhead than it takes from the others.
_ROWS_A_PROCESS = 2
# Matrices of smaller models than BERT base and its kind are slower in two threads than in one: bert-tiny with 4 rows a
# step took 11.2 ms against 5.4.
_LARGE_MODEL = 60_000_000
# Gradients of all processes. A model that is too large for one a core has matrices that threads can divide.
_MOST_GRADIENT_BYTES = 2 << 30
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")

log = logging.getLogger(__name__)


def available_cores() -> int:
    """Returns how many cores this process may use: affinity mask and cgroup quota, not the host's count."""
    # macOS has no affinity mask.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.floor(int(quota) / int(period))))


def resolve_threads(recipe: Recipe) -> int:
    """Returns the thread count of a run. It decides the order of sums, and with it the last bits."""
    if recipe.threads is not None:
        return recipe.threads
    return _PORTABLE_THREADS if recipe.reproducible == "portable" else available_cores()


def share_out_threads(threads: int, *, batch_size: int, weights: int) -> tuple[int, int]:
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


def prepare_environment(recipe: Recipe) -> None:
    """Sets what torch's libraries read once, when they are loaded: to be called before that.

    For `portable` that is the instruction set; for any run, how long threads spin. A user's own value stands.

    Raises:
        RequestError: numpy or torch is loaded already, with another instruction set.
    """
    for name, value in _THREADS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if recipe.reproducible != "portable":
        return
    wrong = {name for name, value in _PORTABLE_ENVIRONMENT.items() if os.environ.get(name) != value}
    if wrong and sys.modules.keys() & {"numpy", "torch"}:
        settings = " ".join(f"{name}={value}" for name, value in _PORTABLE_ENVIRONMENT.items())
        raise RequestError(
            f"reproducible=portable needs {settings} in the environment before numpy and torch are imported"
        )
    os.environ.update(_PORTABLE_ENVIRONMENT)


def configure_torch(recipe: Recipe) -> None:
    """Sets one thread, as replicas need it, and, unless `reproducible` is off, deterministic algorithms."""
    import torch

    torch.set_num_threads(1)
    if recipe.reproducible != "off":
        torch.use_deterministic_algorithms(True)
        # Filling each new tensor with NaN finds reads of memory never written. It is work on every step, and every
        # run of the tests that compares bits would notice such a read as well.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


class StopSignal:
    """SIGINT, SIGTERM and the deadline as one question that the training loop asks.

    Outside the loop a signal raises `StopRequested` where the program stands; inside `deferred` it is
    only noted, so that the loop can save a checkpoint between two steps.
    """

    def __init__(self, *, deadline_seconds: float | None) -> None:
        self._deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._signal: str | None = None
        self._deferred = False

    def install(self) -> None:
        """Takes over SIGINT and SIGTERM of this process. Needs the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        if not self._deferred:
            raise StopRequested(self.status)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keeps signals from interrupting the block; `status` tells of them."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raises StopRequested when the run has to end."""
        if (status := self.status) is not None:
            raise StopRequested(status)

    @property
    def status(self) -> str | None:
        """`interrupted`, `stopped_at_deadline`, or None while the run may go on."""
        if self._signal is not None:
            return "interrupted"
        if self._deadline is not None and time.monotonic() > self._deadline:
            return "stopped_at_deadline"
        return None
