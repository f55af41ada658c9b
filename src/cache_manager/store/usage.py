"""What changes about entries, which never change themselves: last use, pins, leases, evictions."""

from __future__ import annotations

import atexit
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cache_manager.store.layout import Layout, key_of
from src.disk.durable import append_line, open_regular
from src.disk.owner import is_abandoned, unique_name

# `why-miss` shows evictions; only the last so many bytes of them are read.
_MAX_EVICTION_BYTES = 1 << 20

log = logging.getLogger("finetune.cache")


class Usage:
    """Small files beside the entries. Losing one loses no model."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def note_use(self, key: str) -> None:
        """Notes that an entry was used now, unless the cache is read-only."""
        try:
            self._touch(self._layout.used / key)
        except OSError as error:
            log.debug("cache: the use of %s is not noted (%s)", key, error)

    def last_used(self) -> dict[str, float]:
        """Returns when each entry was last used, in seconds since 1970."""
        return {name: status.st_mtime for name, status in _files(self._layout.used)}

    def pin(self, key: str) -> None:
        """Keeps an entry from being evicted or removed."""
        self._touch(self._layout.pins / key)

    def unpin(self, key: str) -> bool:
        """Lets an entry be evicted again; returns whether it was pinned."""
        try:
            (self._layout.pins / key).unlink()
        except FileNotFoundError:
            return False
        return True

    def pinned(self) -> set[str]:
        """Returns the keys of pinned entries."""
        return {name for name, _ in _files(self._layout.pins)}

    @contextmanager
    def lease(self, key: str) -> Iterator[None]:
        """Marks an entry as in use during the block."""
        path = self._take_lease(key)
        try:
            yield
        finally:
            if path is not None:
                path.unlink(missing_ok=True)

    def hold(self, key: str) -> None:
        """Marks an entry as in use until this process ends: its files may be mapped into memory."""
        path = self._take_lease(key)
        if path is not None:
            atexit.register(path.unlink, missing_ok=True)

    def in_use(self) -> set[str]:
        """Returns the keys of entries that a live process uses; leases of dead processes are removed."""
        keys = set()
        for name, _ in _files(self._layout.leases):
            key, _, owner = name.partition("+")
            path = self._layout.leases / name
            if is_abandoned(owner, path):
                path.unlink(missing_ok=True)
            else:
                keys.add(key)
        return keys

    def is_evictable(self, key: str, *, though_pinned: bool = False) -> bool:
        """Whether an entry is neither pinned nor in use; with `though_pinned`, only whether it is not in use."""
        return (though_pinned or not (self._layout.pins / key).exists()) and key not in self.in_use()

    def quarantined(self) -> list[Path]:
        """Returns the folders in the quarantine, the oldest first."""
        found = sorted((status.st_mtime, name) for name, status in _files(self._layout.quarantine))
        return [self._layout.quarantine / name for _, name in found]

    def note_eviction(self, key: str, *, why: str) -> None:
        """Notes that an entry is about to be evicted, or was kept after all."""
        line = json.dumps({"key": key, "why": why, "time": round(time.time(), 3)})
        append_line(self._layout.evictions, line)

    def evictions(self) -> dict[str, dict[str, object]]:
        """Returns the last eviction of each key: {"key", "why", "time"}."""
        try:
            with open_regular(self._layout.evictions) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_EVICTION_BYTES))
                lines = file.read(_MAX_EVICTION_BYTES).splitlines()
        except FileNotFoundError:
            return {}
        evictions: dict[str, dict[str, object]] = {}
        for line in lines:
            try:
                eviction = json.loads(line)
                evictions[str(eviction["key"])] = eviction
            except (ValueError, KeyError, TypeError, RecursionError):
                # A line that was cut off by a kill, or by where reading began.
                continue
        return evictions

    def forget(self, key: str) -> None:
        """Removes the last use, pin and stamps of an entry that is gone."""
        for folder in (self._layout.used, self._layout.pins, self._layout.checked):
            (folder / key).unlink(missing_ok=True)

    def forget_missing(self) -> None:
        """Removes the last uses, pins and stamps of entries that are gone."""
        # An entry in the quarantine may come back, and its pin keeps it there.
        quarantined = {key_of(path) for path in self.quarantined()}
        for folder in (self._layout.used, self._layout.pins, self._layout.checked):
            for name, status in _files(folder):
                # A pin may come before its entry is pulled or imported: only old files are leftovers.
                is_old = time.time() - status.st_mtime > 60
                if is_old and name not in quarantined and not self._layout.entry(name).exists():
                    (folder / name).unlink(missing_ok=True)

    def _take_lease(self, key: str) -> Path | None:
        path = self._layout.leases / f"{key}+{unique_name()}"
        try:
            self._touch(path)
        except OSError as error:
            log.debug("cache: no lease on %s (%s)", key, error)
            return None
        return path

    @staticmethod
    def _touch(path: Path) -> None:
        try:
            os.utime(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        items = os.scandir(folder)
    except FileNotFoundError:
        return
    with items:
        for item in items:
            try:
                yield item.name, item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
