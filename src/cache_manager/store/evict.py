"""Eviction: planned first, carried out after; never an entry that is pinned or in use."""

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
class Eviction:
    """An entry that is to be evicted.

    Attributes:
        record: the entry.
        frees: bytes that no other entry shares.
        why: one phrase.
    """

    record: Record
    frees: int
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Returns its fields in `gc --json`."""
        return {**self.record.to_dict(), "frees_bytes": self.frees, "why": self.why}


@dataclass(frozen=True)
class Plan:
    """The evictions, least recently used first, and the bytes that are kept."""

    evictions: tuple[Eviction, ...]
    kept_bytes: int

    @property
    def freed_bytes(self) -> int:
        """Bytes that the plan frees."""
        return sum(eviction.frees for eviction in self.evictions)


def plan(entries: Entries, *, max_size: int | None, max_age: float | None, held: int | None = None) -> Plan:
    """Chooses the entries to evict, least recently used first.

    Args:
        entries: of the cache.
        max_size: bytes that may be kept; None: no limit.
        max_age: seconds since the last use after which an entry is evicted; None: no limit.
        held: bytes that the cache holds, where that is known.
    """
    held = entries.budget.used() if held is None else held
    candidates = sorted(records(entries, checked=False), key=lambda record: record.last_used)
    shares = _Shares(entries)
    in_use = entries.usage.in_use()
    evictions: list[Eviction] = []
    for record in candidates:
        old = max_age is not None and time.time() - record.last_used > max_age
        large = max_size is not None and held > max_size
        if not (old or large) or record.pinned or record.key in in_use or record.state == "foreign":
            continue
        frees = shares.drop(entries.path(record.key))
        held -= frees
        evictions.append(Eviction(record, frees, "not used for long" if old else "least recently used"))
    return Plan(tuple(evictions), held)


def execute(entries: Entries, plan: Plan) -> int:
    """Evicts what was planned, and removes blobs that no entry needs; returns the bytes that were freed.

    An entry that was pinned or taken into use since the plan was made is kept.
    """
    before = entries.budget.used()
    for eviction in plan.evictions:
        remove(entries, eviction.record.key, why=eviction.why)
    entries.blobs.sweep()
    return max(0, before - entries.budget.used())


def make_room(entries: Entries, excess: int) -> int:
    """Frees at least `excess` bytes, or evicts nothing where that is impossible; returns how many were freed.

    Leftovers of dead processes go first, then the quarantine, then the least recently used entries.
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
    for eviction in chosen.evictions:
        log.info("cache: evicting %.12s (%s) to make room", eviction.record.key, eviction.record.model_name)
    return freed + execute(entries, chosen)


def remove(entries: Entries, key: str, *, why: str) -> bool:
    """Removes an entry in one rename; returns False if it is pinned, in use or missing."""
    usage, path = entries.usage, entries.path(key)
    if not usage.is_evictable(key) or not path.exists():
        return False
    # Noted first: an entry that is gone without a line was lost.
    usage.note_eviction(key, why=why)
    entries.layout.trash.mkdir(parents=True, exist_ok=True)
    trash_path = entries.layout.trash / unique_name()
    try:
        path.rename(trash_path)
    except FileNotFoundError:
        return False
    # A process that marks an entry as in use looks for it afterwards: one of the two sees the other.
    if not usage.is_evictable(key) and not path.exists():
        trash_path.rename(path)
        usage.note_eviction(key, why="kept: it was pinned or taken into use in the meantime")
        return False
    delete(trash_path)
    usage.forget(key)
    return True


class _Shares:
    """How many names each file keeps after the planned evictions."""

    def __init__(self, entries: Entries) -> None:
        self._names: dict[tuple[int, int], int] = {}
        self._blobs = _inodes(entries.blobs.all())

    def drop(self, folder: Path) -> int:
        """Counts an entry as evicted; returns the bytes that no other entry shares."""
        freed = 0
        for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            inode = (status.st_dev, status.st_ino)
            names = status.st_nlink - (inode in self._blobs and not is_own_file(path.name))
            self._names[inode] = self._names.get(inode, names) - 1
            freed += status.st_size if self._names[inode] == 0 else 0
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
