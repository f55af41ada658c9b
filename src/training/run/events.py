"""events.jsonl: one line an event, flushed, so that a killed run leaves its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class EventLog:
    """Appends events to a file."""

    def __init__(self, path: Path) -> None:
        """Opens the file; what it holds stays."""
        path.parent.mkdir(parents=True, exist_ok=True)
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
        kept = [line for line in _whole_lines(self.path) if _is_done(json.loads(line), step=step, epoch=epoch)]
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
    return tuple(json.loads(line) for line in _whole_lines(path))


def _is_done(event: dict[str, Any], *, step: int, epoch: int) -> bool:
    if event.get("event") == "step":
        return bool(event["step"] <= step)
    return bool(event["epoch"] <= epoch)


def _whole_lines(path: Path) -> list[str]:
    """Returns the lines but for a last one that a kill cut short."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]
