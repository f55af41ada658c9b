"""Programs of this package run inside a test as from a user's folder, and what they leave behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def called_from(folder: Path) -> Iterator[None]:
    """Programs of this process run as from a user's folder; afterwards signals and environment are as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Bazel's variables for tests would move the outputs and set a deadline.
            for name in ("TEST_TIMEOUT", "TEST_UNDECLARED_OUTPUTS_DIR"):
                patch.delenv(name, raising=False)
            patch.setenv("BUILD_WORKING_DIRECTORY", str(folder))
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_in(folder: Path, program: Callable[[list[str]], int], *arguments: str) -> int:
    """Runs a program's main as from a user's folder; returns its exit code."""
    with called_from(folder):
        return program([*arguments])


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def json_lines(text: str) -> list[Any]:
    """Returns the content of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
