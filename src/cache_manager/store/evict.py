"""What is taken away, and in which order: planned first, done after, never what is pinned or in use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cache_manager.store.entries import Entries
from src.cache_manager.store.manifest import is_own_file
from src.cache_manager.store.records import Record, records
from src.cache_manager.store.sweep import empty_quarantine, sweep
from src.disk.durable import delete
from src.disk.owner import unique_name

log = logging.getLogger("finetune.cache")


@dataclass(frozen=True)
class Planned:
    """An entry that is to go.

    Attributes:
        record: the entry.
        frees: bytes that no other entry shares.
        why: one phrase.
    """

    record: Record
    frees: int
    why: str

    def to_document(self) -> dict[str, Any]:
        """Returns what `gc --json` says of it."""
        return {**self.record.to_document(), "frees_bytes": self.frees, "why": self.why}


@dataclass(frozen=True)
class Plan:
    """What is to go, least recently used first, and what is kept."""

    planned: tuple[Planned, ...]
    kept_bytes: int

    @property
    def freed_bytes(self) -> int:
        """Bytes that the plan frees."""
        return sum(planned.frees for planned in self.planned)


def plan(entries: Entries, *, max_size: int | None, max_age: float | None, held: int | None = None) -> Plan:
    """Chooses what has to go, least recently used first.

    Args:
        store: the cache.
        max_size: bytes that may be left; None: as many as there are.
        max_age: seconds since its last use after which an entry goes; None: none goes for its age.
        held: bytes the cache holds, where that is known.
    """
    held = entries.budget.used() if held is None else held
    candidates = sorted(records(entries, checked=False), key=lambda record: record.last_used)
    shares = _Shares(entries)
    in_use = entries.usage.in_use()
    planned: list[Planned] = []
    for record in candidates:
        old = max_age is not None and time.time() - record.last_used > max_age
        large = max_size is not None and held > max_size
        if not (old or large) or record.pinned or record.key in in_use or record.state == "foreign":
            continue
        frees = shares.drop(entries.path(record.key))
        held -= frees
        planned.append(Planned(record, frees, "not used for long" if old else "least recently used"))
    return Plan(tuple(planned), held)


def execute(entries: Entries, plan: Plan) -> int:
    """Takes away what was planned, and what nobody needs any more; returns the bytes that are free now.

    An entry that was pinned or taken into use since the plan was made is kept.
    """
    before = entries.budget.used()
    for planned in plan.planned:
        remove(entries, planned.record.key, why=planned.why)
    entries.blobs.sweep()
    return max(0, before - entries.budget.used())


def make_room(entries: Entries, excess: int) -> int:
    """Frees at least so many bytes, or evicts nothing where that is not possible; returns how many are free now.

    What dead processes left goes first, then the quarantine, then what was not used for longest.
    """
    before = entries.budget.used()
    sweep(entries)
    if (freed := before - entries.budget.used()) < excess:
        empty_quarantine(entries, older_than=0.0)
        entries.blobs.sweep()
        freed = before - entries.budget.used()
    if freed >= excess:
        return freed
    held = entries.budget.used()
    chosen = plan(entries, max_size=held - (excess - freed), max_age=None, held=held)
    if chosen.freed_bytes < excess - freed:
        return freed
    for planned in chosen.planned:
        log.info("cache: %.12s (%s) makes room", planned.record.key, planned.record.model_name)
    return freed + execute(entries, chosen)


def remove(entries: Entries, key: str, *, why: str) -> bool:
    """Takes an entry away at once; returns False where it is pinned or in use, or is not there."""
    usage, path = entries.usage, entries.path(key)
    if not usage.may_go(key) or not path.exists():
        return False
    # Written down first: an entry that is gone without a line was lost.
    usage.note_eviction(key, why=why)
    entries.layout.trash.mkdir(parents=True, exist_ok=True)
    grave = entries.layout.trash / unique_name()
    try:
        path.rename(grave)
    except FileNotFoundError:
        return False
    # A process that marks an entry as in use looks for it afterwards: one of the two sees the other.
    if not usage.may_go(key) and not path.exists():
        grave.rename(path)
        usage.note_eviction(key, why="kept: it was pinned or taken into use meanwhile")
        return False
    delete(grave)
    usage.forget(key)
    return True


class _Shares:
    """How many names each file has that are not planned to go."""

    def __init__(self, entries: Entries) -> None:
        self._left: dict[tuple[int, int], int] = {}
        self._blobs = _inodes(entries.blobs.all())

    def drop(self, folder: Path) -> int:
        """Counts an entry as gone; returns the bytes that nothing else has a name of."""
        freed = 0
        for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            inode = (status.st_dev, status.st_ino)
            names = status.st_nlink - (inode in self._blobs and not is_own_file(path.name))
            self._left[inode] = self._left.get(inode, names) - 1
            freed += status.st_size if self._left[inode] == 0 else 0
        return freed


def _inodes(paths: Iterable[Path]) -> set[tuple[int, int]]:
    found = set()
    for path in paths:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found
