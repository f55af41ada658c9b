"""Entries as `ls` and `info` show them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from src.cache_manager.store.entries import Entries
from src.cache_manager.store.layout import is_key, is_real_folder
from src.cache_manager.store.manifest import MAX_SECONDS, BadEntryError, Manifest, read
from src.cache_manager.store.verify import FOREIGN, OK, Finding, inspect


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry as it is shown. What cannot be read from its manifest is None.

    Attributes:
        last_used: seconds since 1970; when it was created, if it was never used.
        state: ok, corrupt, incomplete or foreign.
    """

    key: str
    model_name: str | None
    revision: str | None
    size_bytes: int
    created: float | None
    last_used: float
    pinned: bool
    state: str
    problems: tuple[str, ...]
    manifest: Manifest | None

    def to_dict(self) -> dict[str, Any]:
        """Returns its fields in `ls --json`."""
        return {
            "key": self.key,
            "model_name": self.model_name,
            "revision": self.revision,
            "size_bytes": self.size_bytes,
            "created": None if self.created is None else iso_time(self.created),
            "last_used": iso_time(self.last_used),
            "pinned": self.pinned,
            "state": self.state,
        }


def iso_time(seconds: float) -> str:
    """Returns a time as 2026-01-31T12:00:00Z, which also sorts; an mtime may lie outside the years that have one."""
    return f"{datetime.fromtimestamp(min(max(0, int(seconds)), MAX_SECONDS), UTC):%Y-%m-%dT%H:%M:%SZ}"


def records(entries: Entries, *, checked: bool = True) -> list[Record]:
    """Returns every entry, by key.

    Args:
        entries: of the cache.
        checked: compare every file's stamp with the manifest, and hash those that differ. Otherwise only manifests
            are read.
    """
    collecting = gc.isenabled()
    # Nothing that is created here is garbage yet: collecting would take a fifth of the time.
    gc.disable()
    try:
        return list(_records(entries, checked=checked))
    finally:
        if collecting:
            gc.enable()


def _records(entries: Entries, *, checked: bool) -> Iterator[Record]:
    last_used, pinned = entries.usage.last_used(), entries.usage.pinned()
    for key in sorted(entries.keys()):
        finding = inspect(entries.layout, key) if checked else _read(entries, key)
        changed = 0.0
        if finding.manifest is None:
            try:
                changed = entries.path(key).lstat().st_mtime
            except FileNotFoundError:
                # Evicted since its name was read.
                continue
        yield _record(finding, last_used=last_used.get(key), changed=changed, pinned=key in pinned)


def record_of(entries: Entries, key: str) -> Record:
    """Returns one entry.

    Raises:
        FileNotFoundError: there is no such entry.
    """
    changed = entries.path(key).lstat().st_mtime
    finding = inspect(entries.layout, key)
    return _record(
        finding, last_used=entries.usage.last_used().get(key), changed=changed, pinned=key in entries.usage.pinned()
    )


def _record(finding: Finding, *, last_used: float | None, changed: float, pinned: bool) -> Record:
    manifest = finding.manifest
    made = changed if manifest is None else manifest.created
    return Record(
        key=finding.key,
        model_name=None if manifest is None else manifest.model_name,
        revision=None if manifest is None else manifest.revision,
        size_bytes=0 if manifest is None else manifest.size_bytes,
        created=None if manifest is None else manifest.created,
        last_used=made if last_used is None else last_used,
        pinned=pinned,
        state=finding.state,
        problems=finding.problems,
        manifest=manifest,
    )


def _read(entries: Entries, key: str) -> Finding:
    if not is_key(key) or not is_real_folder(entries.path(key)):
        return Finding(key=key, state=FOREIGN)
    try:
        return Finding(key=key, state=OK, manifest=read(entries.path(key)))
    except BadEntryError as error:
        return Finding(key=key, state=error.state, problems=(str(error),))
