"""Runs pytest as a Bazel test (see python.bzl): the arguments are test files and flags for pytest."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path

import pytest


def bazel_arguments() -> list[str]:
    """Returns what Bazel asks of a test by environment variables, as flags for pytest."""
    arguments = []
    if scratch := os.environ.get("TEST_TMPDIR"):
        arguments.append(f"--basetemp={Path(scratch, 'pytest')}")
        # What programs derive and cache: a sandbox's home is not there, or not writable.
        os.environ.setdefault("XDG_CACHE_HOME", str(Path(scratch, "cache")))
    if report := os.environ.get("XML_OUTPUT_FILE"):
        arguments.append(f"--junitxml={report}")
    if only := os.environ.get("TESTBRIDGE_TEST_ONLY"):
        arguments.append(f"-k={only}")
    return arguments


def main() -> int:
    """Entry point; returns pytest's exit code, of which 5 (no test was found) fails the target too."""
    # Python has put this file's folder first: no test may import what is in it by accident.
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).resolve().parent)]
    # Python would look for garbage among all of torch's objects: while they are made, by the default of 700, and as it
    # ends. That is one to two seconds of each test.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    # anyio's plugin alone is half a second of each test.
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # importlib: test files of one name in two folders do not clash, and sys.path stays as the targets' deps make it.
    return pytest.main(["-p", "no:cacheprovider", "-q", "--import-mode=importlib", *bazel_arguments(), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
