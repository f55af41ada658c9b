"""The points of a sweep, as the build hands them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.disk.json_files import read_json
from src.sweeps.outcome import COMPLETE, Outcome


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training of a sweep.

    Attributes:
        label: of its target.
        settings: field -> value, of the grid; as text.
        seed: of this training.
        outcome: what came of it.
        cpu_seconds: of the training that made it, on the machine that it ran on; None where nobody asked.
        model: its artifact folder, where it is at hand.
        run: the folder with the records of its run, likewise.
    """

    label: str
    settings: Mapping[str, str]
    seed: int
    outcome: Outcome
    cpu_seconds: float | None = None
    model: Path | None = None
    run: Path | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it has scores."""
        return self.outcome.status == COMPLETE


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep; `score` is the name of the score to rank by, or empty."""

    label: str
    score: str
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """Its name without the package."""
        return self.label.rpartition(":")[2]


def read_sweep(manifest: Path) -> Sweep:
    """Reads a sweep and the files of its points, which the manifest names relative to the working folder."""
    document = read_json(manifest)
    points = tuple(_read_point(entry) for entry in document["points"])
    return Sweep(label=document["sweep"], score=document["score"], points=points)


def _read_point(entry: Mapping[str, Any]) -> Point:
    folders = {name: Path(entry[name]) for name in ("model", "run") if name in entry}
    return Point(
        label=entry["label"],
        settings={name: value for name, value in entry["settings"].items() if name != "seed"},
        seed=int(entry["settings"]["seed"]),
        outcome=Outcome(**read_json(Path(entry["outcome"]))),
        cpu_seconds=read_json(Path(entry["cost"]))["cpu_seconds"] if "cost" in entry else None,
        **folders,
    )
