"""Removes what dead processes left. None of it counts as an entry."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from src.cache_manager.store.budget import is_abandoned_staging
from src.cache_manager.store.entries import Entries
from src.cache_manager.store.training_folder import live_claims
from src.disk.durable import delete, discard
from src.disk.owner import is_abandoned

_WRITTEN_FILE = re.compile(r"\..+?\.(?P<owner>[a-z0-9-]+\.[0-9a-f]+\.\d+\.\d+\.\d+\.[0-9a-f]+)")


def sweep(entries: Entries) -> int:
    """Removes half-written entries, half-deleted files, leases and locks of processes that have ended.

    Returns:
        How many things were removed.
    """
    layout = entries.layout
    removed = _remove(layout.incoming, is_abandoned_staging, trash=layout.trash)
    removed += _remove(layout.trash, lambda path: is_abandoned(path.name, path), trash=None)
    for folder in (layout.checked, layout.base):
        removed += _remove(folder, _is_half_written, trash=None)
    removed += _remove(layout.training, _is_abandoned_private_folder, trash=None)
    removed += _remove(layout.locks, _is_unlocked, trash=None)
    live_claims(layout)
    entries.usage.in_use()
    entries.usage.forget_missing()
    return removed


def remove_old_trainings(entries: Entries, *, older_than: float) -> int:
    """Removes training folders that nothing was written to for so many seconds; returns how many."""
    limit = time.time() - older_than
    live = live_claims(entries.layout)

    def is_old(path: Path) -> bool:
        return (
            path.name[:64] not in live
            and max([_changed(path), *(_changed(inner) for inner in path.rglob("*"))]) <= limit
        )

    return _remove(entries.layout.training, is_old, trash=entries.layout.trash)


def _remove(folder: Path, is_waste: Callable[[Path], bool], *, trash: Path | None) -> int:
    removed = 0
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return 0
    for path in paths:
        if not is_waste(path):
            continue
        if trash is None:
            delete(path)
            removed += 1
        else:
            removed += discard(path, trash=trash)
    return removed


def _is_half_written(path: Path) -> bool:
    match = _WRITTEN_FILE.fullmatch(path.name)
    return match is not None and is_abandoned(match["owner"], path)


def _is_abandoned_private_folder(path: Path) -> bool:
    """Whether a training folder was private to a process that has ended: no other process resumes it."""
    _, plus, owner = path.name.partition("+")
    return bool(plus) and is_abandoned(owner.removesuffix(".checkpoint"), path)


def _is_unlocked(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError, NotImplementedError):
        return False
    lock.release()
    return True


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
