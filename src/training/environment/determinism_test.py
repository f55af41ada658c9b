"""The instruction set, and how long threads wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from src.training.environment import determinism


def pin_in_a_process(program: str, **environment: str) -> list[str]:
    """Runs a program that calls pin(kind); returns the words that it prints."""
    begin = """
import os, sys
from src.cli.errors import RequestError
from src.training.environment.determinism import prepare_environment
def pin(kind):
    try:
        prepare_environment(kind)
        print("pinned")
    except RequestError:
        print("refused")
"""
    pinned = {*determinism._PORTABLE_ENVIRONMENT, *determinism._THREADS_ENVIRONMENT}
    clean = {name: value for name, value in os.environ.items() if name not in pinned}
    done = subprocess.run(
        [sys.executable, "-c", begin + program],
        env={**clean, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def test_portable_pins_torch_to_the_common_floor() -> None:
    program = "pin('portable'); import torch; print(torch.backends.cpu.get_cpu_capability(), 'torch' in sys.modules)"
    assert pin_in_a_process(program) == ["pinned", "AVX2", "True"]


def test_portable_pins_numpys_products_to_the_common_floor() -> None:
    program = """
import numpy
from threadpoolctl import threadpool_info
for library in threadpool_info():
    print(library["internal_api"], library["architecture"], library["num_threads"])
"""
    assert pin_in_a_process("pin('portable')" + program) == ["pinned", "openblas", "Haswell", "1"]


def test_portable_leaves_numpy_no_instructions_above_the_common_floor() -> None:
    # A warning would be of a name that this numpy does not know: from 2.4 on AVX512F and the like are X86_V4.
    program = """
import warnings
warnings.simplefilter("error")
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
disabled = os.environ["NPY_DISABLE_CPU_FEATURES"].split()
print(*(name for name in __cpu_dispatch__ if name not in disabled))
print(*(name for name in __cpu_dispatch__ if __cpu_features__[name]))
"""
    assert pin_in_a_process("pin('portable')" + program) == ["pinned", "X86_V3", "X86_V3"]


@pytest.mark.parametrize("kind", ["machine", "portable", "off"])
def test_threads_wait_briefly_and_numpy_starts_none(kind: str) -> None:
    program = f"pin('{kind}'); print(*(os.environ[name] for name in ('GOMP_SPINCOUNT', 'OPENBLAS_NUM_THREADS')))"
    assert pin_in_a_process(program) == ["pinned", "1000", "1"]
    assert pin_in_a_process(program, GOMP_SPINCOUNT="5", OPENBLAS_NUM_THREADS="2") == ["pinned", "5", "2"]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_portable_is_refused_once_a_library_is_loaded_with_another_instruction_set(library: str) -> None:
    # A module of that name is enough to tell: torch itself takes seconds.
    loaded = f"sys.modules['{library}'] = sys\n"
    assert pin_in_a_process(loaded + "pin('portable'); pin('machine'); pin('off')") == ["refused", "pinned", "pinned"]
    environment = determinism._PORTABLE_ENVIRONMENT
    assert pin_in_a_process(loaded + "pin('portable')", **environment) == ["pinned"]


def test_only_portable_pins() -> None:
    program = "pin('machine'); pin('off'); print(os.environ.get('ATEN_CPU_CAPABILITY'))"
    assert pin_in_a_process(program) == ["pinned", "pinned", "None"]
