#!/usr/bin/env python3
"""Obtains the source distribution of a locked package; its sha256 has to be one of the lock's.

tools/pypi_sdist.py LOCK PACKAGE OUTPUT [--have FOLDER]; in an OUTPUT that is a folder it keeps its own name
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def stanza(lock: str, package: str) -> str:
    """Returns the lock's lines for one package: its pin and its hashes."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    found = re.search(rf"^{re.escape(name)}==[^\n]*(?:\n    --hash=[^\n]*)*", lock, re.MULTILINE)
    if found is None:
        sys.exit(f"pypi_sdist: the lock holds no {package}")
    return found.group() + "\n"


def pip(*arguments: str | Path, path: Path | None = None) -> None:
    """Runs pip, which sees the packages in `path` too; ends the program with pip's words where it fails."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if not line.startswith("WARNING: Retrying")]
        sys.exit("\n".join([f"pypi_sdist: pip {arguments[0]} failed:", *errors]))


def download(lock: str, package: str, folder: Path) -> Path:
    """Downloads the sdist into `folder`.

    pip reads the metadata of every sdist that it downloads, which runs its setup.py, after the hashes were compared.
    setuptools, which that needs, is the locked one: left to itself pip would install whichever is the newest.
    """
    checked = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    requirements, setuptools = folder / "requirements.txt", folder / "setuptools.txt"
    requirements.write_text(stanza(lock, package))
    setuptools.write_text(stanza(lock, "setuptools"))
    builder = folder / "builder"
    pip("install", *checked, "--only-binary=:all:", "--target", builder, "-r", setuptools)
    sources = folder / "sdist"
    no_wheel = ("--no-binary=:all:", "--no-build-isolation")
    pip("download", *checked, *no_wheel, "--dest", sources, "-r", requirements, path=builder)
    return next(sources.glob("*.tar.gz"))


def obtain(lock: str, package: str, output: Path, have: Path | None) -> None:
    """Writes the sdist to `output`: the one in the folder `have` if it is there, else PyPI's."""
    hashes = set(re.findall(r"sha256:([0-9a-f]{64})", stanza(lock, package)))
    for file in have.glob("*.tar.gz") if have else ():
        if hashlib.sha256(file.read_bytes()).hexdigest() in hashes:
            shutil.copy(file, output)
            return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(download(lock, package, Path(folder)), output)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", type=Path)
    parser.add_argument("package")
    parser.add_argument("output", type=Path)
    parser.add_argument("--have", type=Path, help="folder in which the sdist may be already")
    options = parser.parse_args()
    obtain(options.lock.read_text(), options.package, options.output, options.have)


if __name__ == "__main__":
    main()
