"""The rules of this repository that no other linter knows; run by tools/check.

Files named for what is in them, no registry's host name, no path of one machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# A mirror is set where the tools look for it (pip's, npm's and apt's own configuration), never in this repository.
_REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|yarnpkg|deb[.]debian|crates|docker|ghcr|quay)[.](?:org|com|io)\b")
_MACHINE_PATH = re.compile(r"(?<![\w.~}/-])/(?:work|root)\b(?!\w)")


def files() -> list[Path]:
    """Returns what git tracks, and what is new and not ignored, without the lock file."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in sorted(set(names)) if name and not name.endswith("_lock.txt")]
    return [path for path in paths if path.is_file()]


def findings(name: str, text: str) -> Iterator[str]:
    """Yields a sentence for each rule that a file breaks."""
    if Path(name).stem.lower() in VAGUE_NAMES:
        yield f"{name}: name the file for what is in it"
    for number, line in enumerate(text.splitlines(), start=1):
        if _REGISTRY.search(line):
            yield f"{name}:{number}: names the host of a package registry"
        if _MACHINE_PATH.search(line):
            yield f"{name}:{number}: holds a path of one machine"


def main() -> int:
    """Entry point; returns the exit code."""
    found: list[str] = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file
        found += findings(path.relative_to(ROOT).as_posix(), text)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
