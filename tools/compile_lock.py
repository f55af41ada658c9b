#!/usr/bin/env python3
"""Compiles requirements.in into bazel_requirements_lock.txt, or checks that the two agree.

tools/compile_lock.py            keeps every pin that still fits
tools/compile_lock.py --upgrade  takes the newest releases
tools/compile_lock.py --check    exit 1 if the lock is out of step, or if a package
                                 has no wheel for Python 3.13 on Linux x86-64
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.in"
LOCK = ROOT / "bazel_requirements_lock.txt"
EXCLUDES = ROOT / "tools" / "lock_excludes.txt"
TORCH_WHEELS = ROOT / "tools" / "torch_cpu_wheels.txt"

# Locked packages without a wheel for Python 3.13 on Linux x86-64, each with the reason. None today:
# of vaderSentiment the sdist is read as well (tools/pypi_sdist.py), but a wheel exists.
WITHOUT_WHEEL: dict[str, str] = {}

_TORCH_STANZA = re.compile(r"^(torch==(\S+)) \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.M)


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
            # One lock for Python 3.11 to 3.13 on every platform, with one version of each package.
            *("--universal", "--python-version", "3.11", "--fork-strategy", "fewest"),
            *("--generate-hashes", "--excludes", EXCLUDES),
            *("--custom-compile-command", "tools/compile_lock.py"),
        )
        return with_cpu_torch(output.read_text())


def with_cpu_torch(lock: str) -> str:
    """Replaces the hashes of torch by those of its CPU wheels.

    Raises:
        SystemExit: torch's locked version has no line in torch_cpu_wheels.txt.
    """
    stanza = _TORCH_STANZA.search(lock)
    if stanza is None:
        sys.exit("compile_lock: the lock holds no torch")
    version = stanza.group(2)
    lines = [line.split() for line in TORCH_WHEELS.read_text().splitlines() if line and line[0] != "#"]
    named = (f"torch-{version}+cpu-", f"torch-{version}-")
    hashes = sorted(digest for digest, wheel in lines if wheel.startswith(named))
    if not hashes:
        sys.exit(f"compile_lock: add the wheels of torch {version} on PyTorch's CPU index to {TORCH_WHEELS.name}")
    pinned = " \\\n".join([stanza.group(1), *(f"    --hash=sha256:{digest}" for digest in hashes)])
    return lock[: stanza.start()] + pinned + "\n" + lock[stanza.end() :]


def check() -> int:
    """Returns 0 if the lock is what requirements.in asks for and has the wheels it needs."""
    locked = LOCK.read_text()
    expected = compile_lock(locked)
    if locked != expected:
        sys.stderr.writelines(
            difflib.unified_diff(locked.splitlines(True), expected.splitlines(True), LOCK.name, "expected", n=0)
        )
        print("compile_lock: the lock is out of step with requirements.in: run tools/compile_lock.py", file=sys.stderr)
        return 1
    check_wheels()
    print("compile_lock: the lock is in step, with a wheel for Python 3.13 on Linux x86-64 of every package")
    return 0


def check_wheels() -> None:
    """Resolves the locked pins for Python 3.13 on Linux x86-64 from wheels alone (metadata only).

    torch is exempt by name: its wheels are those of torch_cpu_wheels.txt, which no resolver sees
    where PyTorch's index is out of reach; there the list itself is asked.
    """
    if not re.search(r"cp313-manylinux_2_28_x86_64\.whl$", TORCH_WHEELS.read_text(), re.M):
        sys.exit(f"compile_lock: {TORCH_WHEELS.name} has no cp313 wheel for Linux x86-64")
    pins = re.findall(r"^([a-z0-9][^ ]*==[^ \\]+(?: ; [^\\\n]+)?) \\$", LOCK.read_text(), re.M)
    wanted = [pin for pin in pins if re.split(r"[=\[]", pin)[0] not in {"torch", *WITHOUT_WHEEL}]
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "pins.txt"
        requirements.write_text("\n".join(wanted) + "\n")
        uv(
            *("pip", "compile", requirements, "--output-file", Path(folder) / "resolved.txt"),
            *("--no-deps", "--only-binary", ":all:"),
            *("--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_28"),
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
    LOCK.write_text(compile_lock(None if options.upgrade or not LOCK.exists() else LOCK.read_text()))
    print(f"compile_lock: wrote {LOCK.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
