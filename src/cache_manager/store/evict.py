"""Eviction: planned first, carried out after; never an entry that is pinned or in use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cache_manager.store.entries import Entries
from src.cache_manager.store.layout import key_of
from src.cache_manager.store.records import Record, records
from src.cache_manager.store.sweep import sweep
from src.cli.terminal import printable
from src.disk.durable import delete
from src.disk.owner import unique_name

# A week to examine bad entries, and to repair them.
QUARANTINE_SECONDS = 7 * 86400.0

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
    """What is to go.

    Attributes:
        evictions: entries, least recently used first.
        quarantined: folders of the quarantine, the oldest first, with the bytes that each frees.
        kept_bytes: what is left.
    """

    evictions: tuple[Eviction, ...]
    quarantined: tuple[tuple[Path, int], ...]
    kept_bytes: int

    @property
    def freed_bytes(self) -> int:
        """Bytes that the plan frees."""
        return sum(eviction.frees for eviction in self.evictions) + sum(frees for _, frees in self.quarantined)


def plan(entries: Entries, *, max_size: int | None, max_age: float | None, held: int | None = None) -> Plan:
    """Chooses the entries to evict, least recently used first.

    Only where that is not enough, the quarantine goes before its week is over: it may hold the only right copy.

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
    quarantined: list[tuple[Path, int]] = []
    for folder in entries.usage.quarantined():
        if max_size is not None and held > max_size and entries.usage.is_evictable(key_of(folder)):
            quarantined.append((folder, shares.drop(folder)))
            held -= quarantined[-1][1]
    return Plan(tuple(evictions), tuple(quarantined), held)


def execute(entries: Entries, plan: Plan) -> int:
    """Evicts what was planned, and removes blobs that no entry needs; returns the bytes that were freed.

    An entry that was pinned or taken into use since the plan was made is kept.
    """
    before = entries.budget.used()
    for eviction in plan.evictions:
        remove(entries, eviction.record.key, why=eviction.why)
    for folder, _ in plan.quarantined:
        _remove(entries, folder, why="quarantined, and its room was needed")
    entries.blobs.sweep()
    return max(0, before - entries.budget.used())


def make_room(entries: Entries, excess: int) -> int:
    """Frees at least `excess` bytes, or evicts nothing where that is impossible; returns how many were freed.

    Leftovers of dead processes go first, then what was quarantined for its week, then the least recently used entries.
    """
    before = entries.budget.used()
    sweep(entries)
    empty_quarantine(entries)
    entries.blobs.sweep()
    held = entries.budget.used()
    if (freed := before - held) >= excess:
        return freed
    chosen = plan(entries, max_size=held - (excess - freed), max_age=None, held=held)
    if chosen.freed_bytes < excess - freed:
        return freed
    for eviction in chosen.evictions:
        name = printable(eviction.record.model_name or "?")
        log.info("cache: evicting %.12s (%s) to make room", eviction.record.key, name)
    return freed + execute(entries, chosen)


def remove(entries: Entries, key: str, *, why: str) -> bool:
    """Removes an entry in one rename; returns False if it is pinned, in use or missing."""
    if not _remove(entries, entries.path(key), why=why):
        return False
    entries.usage.forget(key)
    return True


def empty_quarantine(entries: Entries, *, older_than: float = QUARANTINE_SECONDS) -> int:
    """Removes what was quarantined so many seconds ago and is not in use; returns how many folders."""
    removed = 0
    for folder in entries.usage.quarantined():
        try:
            age = time.time() - folder.lstat().st_mtime
        except FileNotFoundError:
            continue
        if age >= older_than:
            removed += _remove(entries, folder, why="its time in the quarantine is over", though_pinned=True)
    return removed


def _remove(entries: Entries, path: Path, *, why: str, though_pinned: bool = False) -> bool:
    """Removes an entry, or a folder of the quarantine, in one rename; returns False if it may not go or is missing."""
    key = key_of(path)
    if not entries.usage.is_evictable(key, though_pinned=though_pinned) or not path.exists():
        return False
    # Noted first: an entry that is gone without a line was lost.
    entries.usage.note_eviction(key, why=why)
    entries.layout.trash.mkdir(parents=True, exist_ok=True)
    trash_path = entries.layout.trash / unique_name()
    try:
        path.rename(trash_path)
    except FileNotFoundError:
        return False
    # A process that marks an entry as in use looks for it afterwards: one of the two sees the other.
    if not entries.usage.is_evictable(key, though_pinned=though_pinned) and not path.exists():
        trash_path.rename(path)
        entries.usage.note_eviction(key, why="kept: it was pinned or taken into use in the meantime")
        return False
    delete(trash_path)
    return True


class _Shares:
    """How many names each file keeps after the planned evictions."""

    def __init__(self, entries: Entries) -> None:
        self._names: dict[tuple[int, int], int] = {}
        self._blobs = _inodes(entries.blobs.all())

    def drop(self, folder: Path) -> int:
        """Counts an entry as evicted; returns the bytes that no other entry shares."""
        freed = 0
        for status in _statuses(folder):
            inode = (status.st_dev, status.st_ino)
            names = status.st_nlink - (inode in self._blobs)
            self._names[inode] = self._names.get(inode, names) - 1
            freed += status.st_size if self._names[inode] == 0 else 0
        return freed


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    """Yields the status of every file below a folder; what cannot be read is left out."""
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(f"{parent}/{name}")
            except OSError as error:
                log.debug("cache: %s in %s is not counted (%s)", name, parent, error)


def _inodes(paths: Iterable[Path]) -> set[tuple[int, int]]:
    found = set()
    for path in paths:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found
