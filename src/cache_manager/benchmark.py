"""Measures the cache's operations on many entries, in seconds: one JSON object.

bazel run //src/cache_manager:benchmark -- [--entries 10000] [--scratch DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.cache_manager.commands.program import run_command
from src.cache_manager.store.records import records
from src.cache_manager.store.store import Store
from src.cache_manager.testing.sample_entries import many_samples, sample_key
from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.working_folder import working_folder


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("benchmark", lambda: _run(arguments), debug="--debug" in arguments, answers=True)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = RefusingParser(prog="benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--entries", type=int, default=10_000, help="entries to list and look up (default: %(default)s)"
    )
    parser.add_argument("--scratch", metavar="DIR", help="folder on the disk to measure (default: a temporary folder)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    if options.entries < 1:
        raise RequestError(f"--entries must be above 0, not {options.entries}")
    return options


def _run(arguments: list[str]) -> int:
    options = _parse(arguments)
    parent = None if options.scratch is None else working_folder() / Path(options.scratch).expanduser()
    with tempfile.TemporaryDirectory(dir=parent, prefix="cache-benchmark-") as scratch:
        json.dump(_operations(Path(scratch) / "many", count=options.entries), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return EXIT_DONE


def _operations(root: Path, *, count: int) -> dict[str, Any]:
    """Returns seconds of operations on a cache of many entries."""
    store = Store(root)
    started = time.perf_counter()
    many_samples(store, root.parent / "sample", count=count)
    made = time.perf_counter() - started
    key = sample_key(count // 2)
    os.environ["FINETUNE_CACHE_DIR"] = str(root)
    return {
        "entries": count,
        "commit": round(made / count, 5),
        "ls": _median(lambda: _quiet("ls", "--json"), times=5),
        "ls_as_a_program": _median(lambda: _program("ls", "--json"), times=3),
        "records_read_only": _median(lambda: records(store, checked=False), times=3),
        "lookup": _median(lambda: store.lookup(key), times=200),
        "lookup_of_a_missing_key": _median(lambda: store.lookup("0" * 64), times=200),
        "prefix": _median(lambda: store.resolve(key[:12]), times=20),
        "gc_plan": _median(lambda: _quiet("gc", "--max_size", "1MB"), times=3),
        "bytes_used": _median(lambda: store.budget.used(), times=3),
    }


def _median(work: Callable[[], Any], *, times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 6)


def _quiet(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if run_command(list(arguments)) != EXIT_DONE:
            raise RuntimeError(f"{arguments[0]} failed on the cache that was made for it")


def _program(*arguments: str) -> None:
    """Runs the command as a process of its own, the start of Python included."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = (
        "import sys; from src.cache_manager.commands.program import run_command; sys.exit(run_command(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
