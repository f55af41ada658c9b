#!/usr/bin/env python3
"""Compiles requirements.in into the two locks, or checks that they agree.

tools/compile_lock.py            keeps every pin that still fits
tools/compile_lock.py --upgrade  takes the newest releases
tools/compile_lock.py --check    exit 1 if a lock is out of step, or if a package
                                 has no wheel for Python 3.13 on Linux x86-64

bazel_requirements_lock.txt holds every package, torch by its CPU wheels. tools/torch_cuda_lock.txt
stands in for torch's lines where only PyPI can be reached: its build of the same version, and what
that needs beside the packages of the first lock.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.in"
LOCK = ROOT / "bazel_requirements_lock.txt"
CUDA_LOCK = ROOT / "tools" / "torch_cuda_lock.txt"
EXCLUDES = ROOT / "tools" / "lock_excludes.txt"
TORCH_WHEELS = ROOT / "tools" / "torch_cpu_wheels.txt"

# Locked packages without a wheel for Python 3.13 on Linux x86-64, each with the reason. None today:
# of vaderSentiment the sdist is read as well (tools/pypi_sdist.py), but a wheel exists.
WITHOUT_WHEEL: dict[str, str] = {}

# torch imports it only to compile for a GPU: 198 MB.
CUDA_EXCLUDES = {"triton"}

_STANZA = re.compile(
    r"^(([a-z0-9][a-z0-9.-]*)(?:\[[^]]*\])?==(\S+)[^\n]*) \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.M
)
# One lock for Python 3.11 to 3.13 on every platform, with one version of each package.
_UNIVERSAL = ("--universal", "--python-version", "3.11", "--fork-strategy", "fewest")
_LINUX = ("--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_28")
_LINUX_WHEEL = re.compile(r"-(?:cp313-cp313|py[23.py]*-none)-(?:manylinux\w*x86_64\S*|any)\.whl$")
_CUDA_HEADER = """\
# Stands in for torch's lines in bazel_requirements_lock.txt where PyTorch's own index is out of reach: PyPI's torch,
# which on Linux is a CUDA build, and what it needs beside the packages locked there. Written by tools/compile_lock.py.
# download: {size:.1f} GB
"""


def uv(*arguments: str | Path) -> None:
    """Runs uv in the repository's root; ends the program with uv's words where it fails."""
    program = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if program is None:
        sys.exit("compile_lock: no uv: run ./setup.sh, then .venv/bin/python tools/compile_lock.py")
    done = subprocess.run([program, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"compile_lock: uv {arguments[0]} failed:\n{done.stderr.strip()}")


def compile_lock(previous: str | None) -> str:
    """Returns the lock's text; pins of `previous` are kept where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / LOCK.name
        if previous is not None:
            output.write_text(previous)
        uv(
            *("pip", "compile", REQUIREMENTS.name, "--output-file", output),
            *(*_UNIVERSAL, "--generate-hashes", "--excludes", EXCLUDES),
            *("--custom-compile-command", "tools/compile_lock.py"),
        )
        return with_cpu_torch(output.read_text())


def with_cpu_torch(lock: str) -> str:
    """Replaces the hashes of torch by those of its CPU wheels.

    Raises:
        SystemExit: torch's locked version has no line in torch_cpu_wheels.txt.
    """
    stanza = torch_stanza(lock)
    version = stanza.group(3)
    lines = [line.split() for line in TORCH_WHEELS.read_text().splitlines() if line and line[0] != "#"]
    named = (f"torch-{version}+cpu-", f"torch-{version}-")
    hashes = sorted(digest for digest, wheel in lines if wheel.startswith(named))
    if not hashes:
        sys.exit(f"compile_lock: add the wheels of torch {version} on PyTorch's CPU index to {TORCH_WHEELS.name}")
    pinned = " \\\n".join([stanza.group(1), *(f"    --hash=sha256:{digest}" for digest in hashes)])
    return lock[: stanza.start()] + pinned + "\n" + lock[stanza.end() :]


def torch_stanza(lock: str) -> re.Match[str]:
    """Returns the lines of torch: group 1 is the pin, 3 the version.

    Raises:
        SystemExit: there are none.
    """
    for stanza in _STANZA.finditer(lock):
        if stanza.group(2) == "torch":
            return stanza
    sys.exit("compile_lock: the lock holds no torch")


def compile_cuda_pins(lock: str, previous: str | None) -> str:
    """Returns the stanzas of torch_cuda_lock.txt: PyPI's torch, and what it needs beside the packages of `lock`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / CUDA_LOCK.name
        if previous is not None:
            output.write_text(previous)
        constraints = Path(folder) / LOCK.name
        constraints.write_text(lock)
        wanted = Path(folder) / "torch.in"
        wanted.write_text(torch_stanza(lock).group(1) + "\n")
        uv(
            *("pip", "compile", wanted, "--output-file", output, "--constraints", constraints),
            *(*_UNIVERSAL, "--generate-hashes", "--no-annotate", "--no-header"),
        )
        return beside(lock, output.read_text())


def beside(lock: str, compiled: str) -> str:
    """Returns the stanzas of `compiled` for torch and for what `lock` does not hold."""
    left_out = {stanza.group(2) for stanza in _STANZA.finditer(lock)} - {"torch"} | CUDA_EXCLUDES
    return "".join(stanza.group() for stanza in _STANZA.finditer(compiled) if stanza.group(2) not in left_out)


def cuda_download_bytes(pins: str) -> int:
    """Returns the size of the wheels for Python 3.13 on Linux x86-64, as the index names it."""
    with tempfile.TemporaryDirectory() as folder:
        requirements, resolved = Path(folder) / "pins.txt", Path(folder) / "pylock.toml"
        requirements.write_text(pins)
        uv(
            *("pip", "compile", requirements, "--output-file", resolved, "--format", "pylock.toml"),
            *("--no-deps", "--only-binary", ":all:", *_LINUX),
        )
        return linux_bytes(tomllib.loads(resolved.read_text()))


def linux_bytes(pylock: dict[str, Any]) -> int:
    """Returns the size of the wheels of a pylock.toml for Python 3.13 on Linux x86-64.

    Raises:
        SystemExit: a package has no such wheel, or the index names no size.
    """
    total = 0
    for package in pylock["packages"]:
        sizes = [wheel.get("size") for wheel in package["wheels"] if _LINUX_WHEEL.search(wheel["url"])]
        if not sizes or sizes[0] is None:
            sys.exit(f"compile_lock: the index names no size of {package['name']}: compile with PyPI in reach")
        total += sizes[0]
    return total


def check() -> int:
    """Returns 0 if the locks are what requirements.in asks for and have the wheels they need."""
    locked, cuda_locked = LOCK.read_text(), CUDA_LOCK.read_text()
    expected = compile_lock(locked)
    # The header is left out: some indexes name no sizes.
    cuda_pins = "".join(line for line in cuda_locked.splitlines(keepends=True) if line[0] != "#")
    if out_of_step(LOCK, locked, expected) or out_of_step(
        CUDA_LOCK, cuda_pins, compile_cuda_pins(expected, cuda_locked)
    ):
        return 1
    check_wheels()
    print("compile_lock: the locks are in step, with a wheel for Python 3.13 on Linux x86-64 of every package")
    return 0


def out_of_step(lock: Path, locked: str, expected: str) -> bool:
    """Returns whether a lock is not as expected, and prints where."""
    if locked == expected:
        return False
    sys.stderr.writelines(
        difflib.unified_diff(locked.splitlines(True), expected.splitlines(True), lock.name, "expected", n=0)
    )
    print(f"compile_lock: {lock.name} is out of step with requirements.in: run tools/compile_lock.py", file=sys.stderr)
    return True


def check_wheels() -> None:
    """Resolves the pins of both locks for Python 3.13 on Linux x86-64 from wheels alone (metadata only).

    torch is PyPI's there: its CPU wheels are those of torch_cpu_wheels.txt, which no resolver sees
    where PyTorch's index is out of reach; for them the list itself is asked.
    """
    if not re.search(r"cp313-manylinux_2_28_x86_64\.whl$", TORCH_WHEELS.read_text(), re.M):
        sys.exit(f"compile_lock: {TORCH_WHEELS.name} has no cp313 wheel for Linux x86-64")
    pins = [stanza.group(1, 2) for stanza in _STANZA.finditer(LOCK.read_text())]
    wanted = [pin for pin, name in pins if name not in {"torch", *WITHOUT_WHEEL}]
    wanted += [stanza.group(1) for stanza in _STANZA.finditer(CUDA_LOCK.read_text())]
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "pins.txt"
        requirements.write_text("\n".join(wanted) + "\n")
        uv(
            *("pip", "compile", requirements, "--output-file", Path(folder) / "resolved.txt"),
            *("--no-deps", "--only-binary", ":all:", *_LINUX),
        )


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--upgrade", action="store_true")
    options = parser.parse_args()
    if options.check:
        return check()
    lock, cuda_lock = (None if options.upgrade or not path.exists() else path.read_text() for path in (LOCK, CUDA_LOCK))
    compiled = compile_lock(lock)
    pins = compile_cuda_pins(compiled, cuda_lock)
    size = cuda_download_bytes(pins) / 1e9
    LOCK.write_text(compiled)
    CUDA_LOCK.write_text(_CUDA_HEADER.format(size=size) + pins)
    print(f"compile_lock: wrote {LOCK.name} and {CUDA_LOCK.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
