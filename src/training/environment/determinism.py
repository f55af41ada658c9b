"""The same bits every time: what torch's libraries read from the environment, and torch's own settings."""

from __future__ import annotations

import os
import shlex
import sys

from src.cli.errors import RequestError

# The floor of `portable`: every x86-64 server since 2015 has AVX2. Each library reads its own name for it.
_PORTABLE_ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # Not AVX2: on other makers' CPUs MKL silently takes that for AUTO, and only this gives the same bits on all
    # (oneMKL Developer Guide, "Specifying Code Branches"). Its SSE2 products cost a fifth to a third of a step.
    "MKL_CBWR": "COMPATIBLE",
    # numpy's: with this, OpenBLAS runs the same kernels on every CPU that has AVX2, at full speed.
    "OPENBLAS_CORETYPE": "Haswell",
    # numpy's own: with AVX-512 a dozen of its functions have other bits (float32 power, log1p; float64 exp, log).
    # The names are numpy 2.4's; determinism_test notices a numpy that has others.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# libgomp's threads wait for one another by spinning, by default 300,000 times. With a neighbour on one of 2 cores a
# step of bert-tiny then took 613 ms; with this count it took 35 to 46, and on quiet cores 16 instead of 14.5.
# numpy's products are a process's own work; OpenBLAS would start a thread a core in each.
_THREADS_ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "OPENBLAS_NUM_THREADS": "1"}


def prepare_environment(reproducible: str) -> None:
    """Sets what torch's libraries read once, when they are loaded: to be called before that.

    For `portable` that is the instruction set; for any run, how long threads spin. A user's own value is kept.

    Raises:
        RequestError: numpy or torch is loaded already, with another instruction set.
    """
    for name, value in _THREADS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if reproducible != "portable":
        return
    wrong = {name for name, value in _PORTABLE_ENVIRONMENT.items() if os.environ.get(name) != value}
    if wrong and sys.modules.keys() & {"numpy", "torch"}:
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in _PORTABLE_ENVIRONMENT.items())
        raise RequestError(
            f"reproducible=portable needs {settings} in the environment before numpy and torch are imported"
        )
    os.environ.update(_PORTABLE_ENVIRONMENT)


def configure_torch(reproducible: str) -> None:
    """Sets one thread, as forking requires, and, unless `reproducible` is off, deterministic algorithms."""
    import torch

    torch.set_num_threads(1)
    if reproducible != "off":
        torch.use_deterministic_algorithms(True)
        # Filling each new tensor with NaN finds reads of memory never written. It is work on every step, and every
        # run of the tests that compares bits would notice such a read as well.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
