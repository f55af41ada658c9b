"""Programs run on this CPU and on others, emulated by qemu, whose rsqrtps and rcpps are like no hardware's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# An AMD and an Intel CPU with AVX2; qemu 7.2 emulates all of it, and no AVX-512. None: this CPU.
EMULATED_CPUS = ("EPYC-Milan", "Haswell")
_EMULATOR = "qemu-x86_64"
_CPU_INFO = Path("/proc/cpuinfo")


def missing_emulator() -> str | None:
    """Returns what to install, as a sentence; None where it is installed."""
    return None if shutil.which(_EMULATOR) else f"{_EMULATOR} is not installed: apt-get install qemu-user"


def cpu_of_another_maker() -> str:
    """Returns the one of EMULATED_CPUS that is of another maker than this machine's."""
    amd, intel = EMULATED_CPUS
    return amd if "GenuineIntel" in _CPU_INFO.read_text(encoding="ascii") else intel


def run_on(cpu: str | None, module: str, *arguments: str) -> str:
    """Runs a program and returns the last line that it prints.

    Args:
        cpu: as qemu names it; None: this machine's own.
        module: the program's.
        *arguments: its command line.

    Raises:
        subprocess.CalledProcessError: the program failed.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command if cpu is None else [_EMULATOR, "-cpu", cpu, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]
