"""events.jsonl: one line an event, flushed, so that a killed run leaves its history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError


class EventLog:
    """Appends events to a file."""

    def __init__(self, path: Path) -> None:
        """Opens the file; what it holds stays.

        Raises:
            RequestError: something else than a file has its name: a FIFO would block for ever.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise RequestError(f"{path} is not a file: remove it")
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def record(self, event: dict[str, Any]) -> None:
        """Writes one line."""
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def drop_after(self, step: int, *, epoch: int) -> None:
        """Drops events of what is about to be done again.

        Args:
            step: the last one done.
            epoch: the last one scored. A checkpoint may stand between an epoch's last step and its scores.
        """
        kept = [line for line, event in _events(self.path) if _is_done(event, step=step, epoch=epoch)]
        self._file.close()
        # Not in place: a kill or a full disk in the middle would take the history along.
        partial = self.path.with_name(f"{self.path.name}.partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_events(path: Path) -> tuple[dict[str, Any], ...]:
    """Returns what an event log holds."""
    return tuple(event for _, event in _events(path))


def _is_done(event: dict[str, Any], *, step: int, epoch: int) -> bool:
    if event.get("event") == "step":
        return bool(event["step"] <= step)
    return bool(event["epoch"] <= epoch)


def _events(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields lines and what they hold, but for damaged ones, such as a last one that a kill cut short.

    They are a run's history, which no training should fail for.
    """
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if line.endswith("\n") and isinstance(event, dict):
            yield line, event
