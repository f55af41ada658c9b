"""Compares the Python packages of this interpreter with the lock files; for the air-gapped lane.

check_venv.py LOCK CUDA_LOCK  prints {package: [PIN MODULE... of each it stands on]} as JSON; exit 1, naming what
                              differs. CUDA_LOCK counts where torch is PyPI's build (see tools/compile_lock.py)
check_venv.py --stamp         prints a hash that changes whenever a package or the interpreter does
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path, PurePath

_PIN = re.compile(r"^([A-Za-z0-9][^ \[=]*)(?:\[[^\]]*\])?==([^ \\;]+)(?: ; ([^\\]+?))?(?: \\)?$", re.MULTILINE)


def canonical(name: str) -> str:
    """Returns a package's name as pip.parse spells it in a label."""
    return re.sub(r"[-_.]+", "_", name).lower()


def stamp() -> str:
    """Returns a hash of what is installed, from folder listings alone: this runs before every bazel command."""
    seen = [sys.version, sys.executable]
    for folder in [*map(Path, sys.path), Path(sys.prefix, "share", "sdists")]:
        if folder.is_dir():
            seen += sorted(file.name for file in folder.iterdir() if file.suffix in {".dist-info", ".gz"})
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def locked_pins(lock: str) -> dict[str, str]:
    """Returns {canonical name: version} of the pins whose markers hold for this interpreter."""
    from packaging.markers import Marker

    return {
        canonical(name): version
        for name, version, marker in _PIN.findall(lock)
        if not marker or Marker(marker).evaluate()
    }


def installed() -> tuple[dict[str, str], dict[str, set[str]], dict[str, list[str]]]:
    """Returns versions, needs (extras left out) and modules of what is installed, by canonical name."""
    from importlib import metadata

    from packaging.requirements import Requirement

    versions: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    importable: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        name = canonical(distribution.name)
        if name in versions:
            continue  # the first on sys.path is the one that is imported
        versions[name] = distribution.version
        wanted = [Requirement(text) for text in distribution.requires or []]
        needs[name] = {canonical(r.name) for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})}
        importable[name] = modules(distribution.files or [])
    return versions, needs, importable


def differences(pins: dict[str, str], versions: dict[str, str]) -> list[str]:
    """Says of each locked package that is missing or another version what is wrong with it."""
    wrong = []
    for name, pin in sorted(pins.items()):
        found = versions.get(name)
        if found is None:
            wrong.append(f"{name} is missing")
        elif pin not in {found, found.partition("+")[0]}:  # torch 2.13.0+cpu is torch 2.13.0
            wrong.append(f"{name} is {found} and not {pin}")
    return wrong


def modules(files: Iterable[PurePath]) -> list[str]:
    """Returns what can be imported of a package's files, given below site-packages: `yaml` and `_yaml` of PyYAML."""
    tops = {file.parts[0] for file in files}
    return sorted(top.partition(".")[0] for top in tops if "." not in top or top.endswith((".py", ".so")))


def closure(name: str, needs: dict[str, set[str]], versions: dict[str, str]) -> list[str]:
    """Returns the packages that `name` stands on, itself included."""
    todo, seen = [name], set()
    while todo:
        package = todo.pop()
        if package in versions and package not in seen:
            seen.add(package)
            todo += needs[package]
    return sorted(seen)


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    if arguments == ["--stamp"]:
        print(stamp())
        return 0
    lock, cuda_lock = (Path(argument).read_text() for argument in arguments)
    try:
        pins = locked_pins(lock)
        versions, needs, importable = installed()
        if "+" not in versions.get("torch", "+"):
            pins |= locked_pins(cuda_lock)
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing", file=sys.stderr)
        return 1
    wrong = differences(pins, versions)
    if wrong:
        print(", ".join(wrong), file=sys.stderr)
        return 1
    lines = {name: " ".join([f"{name}=={version}", *importable[name]]) for name, version in versions.items()}
    python = f"python=={platform.python_version()}"
    print(json.dumps({name: [*map(lines.get, closure(name, needs, versions)), python] for name in pins}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
