"""The byte limit: room is reserved before it is written to, so that the limit holds at every moment.

A writer first claims bytes, in the name of a folder, and then counts: of two at once, at least one sees the other.
No lock is needed for that; one is taken to save needless evictions.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from src.cache_manager.store.layout import Layout
from src.cli.errors import RequestError
from src.cli.formats import parse_size, show_size
from src.cli.terminal import printable
from src.disk.owner import is_abandoned, unique_name

LIMIT_VARIABLE = "FINETUNE_CACHE_MAX_SIZE"
_ATTEMPTS = 20

log = logging.getLogger("finetune.cache")


def configured_limit() -> int | None:
    """Returns the byte limit of $FINETUNE_CACHE_MAX_SIZE; None: no limit.

    Raises:
        RequestError: it is not a size.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    return parse_size(text, name=LIMIT_VARIABLE) if text else None


class Staging:
    """A folder that an entry is assembled in. Its name holds its owner and how many bytes it may grow by."""

    def __init__(self, layout: Layout) -> None:
        layout.incoming.mkdir(parents=True, exist_ok=True)
        self._name = unique_name()
        self.folder = layout.incoming / f"{self._name}+0"
        self.folder.mkdir()

    def path(self, name: str) -> Path:
        """Returns where a file of the entry goes; the folders above it are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def claim(self, size: int) -> None:
        """Declares how many bytes will be written into the folder."""
        claimed = self.folder.with_name(f"{self._name}+{size}")
        if claimed != self.folder:
            self.folder.rename(claimed)
            self.folder = claimed


def claimed_bytes(folder: Path) -> int:
    """Returns how many bytes a staging folder may grow by."""
    _, _, size = folder.name.rpartition("+")
    return int(size) if size.isdigit() else 0


def is_abandoned_staging(folder: Path) -> bool:
    """Whether a staging folder's owner has ended."""
    return is_abandoned(folder.name.rpartition("+")[0], folder)


class Budget:
    """Counts what the cache holds and reserves room for more."""

    def __init__(self, layout: Layout, *, limit: int | None) -> None:
        """Takes the limit in bytes; None: no limit."""
        self._layout = layout
        self.limit = limit

    def used(self) -> int:
        """Returns the bytes of all files, hard links counted once, and of all claims.

        Files move only from folders that are read earlier to folders that are read later: none is missed.
        """
        total = 0
        seen: set[tuple[int, int]] = set()
        for staging in _children(self._layout.incoming):
            total += claimed_bytes(Path(staging.path))
            # Files with one name are being written, and are claimed. Those with more existed before.
            total += _new_bytes(Path(staging.path), seen, min_links=2)
        layout = self._layout
        for folder in (layout.entries, layout.quarantine, layout.blobs, layout.trash):
            total += _new_bytes(folder, seen, min_links=1)
        return total

    def reserve(self, staging: Staging, size: int, *, make_room: Callable[[int], int]) -> None:
        """Claims room for a staging folder, evicting entries if needed.

        Args:
            staging: the folder.
            size: bytes that will be written into it.
            make_room: evicts at least so many bytes if it can; returns how many it did.

        Raises:
            RequestError: no room can be made; nothing was evicted if the entry could never fit.
        """
        if self.limit is None:
            return
        if size > self.limit:
            raise RequestError(
                f"a model of {show_size(size)} does not fit into a cache of {show_size(self.limit)}: "
                f"raise {LIMIT_VARIABLE}"
            )
        for attempt in range(_ATTEMPTS):
            staging.claim(size)
            if (excess := self.used() - self.limit) <= 0:
                return
            if make_room(excess) >= excess and self.used() <= self.limit:
                return
            # Others may be about to give up their claims, as this process does.
            staging.claim(0)
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))
        raise RequestError(
            f"the cache may hold {show_size(self.limit)} and has no room for {show_size(size)} more, as the rest is "
            f"pinned or in use: raise {LIMIT_VARIABLE}, or unpin something"
        )


def _children(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        log.warning("cache: %s is not counted (%s)", printable(str(folder)), error.strerror)
        return []


def _new_bytes(folder: Path | str, seen: set[tuple[int, int]], *, min_links: int) -> int:
    """Returns the bytes of files below a folder that have not been counted yet."""
    total = 0
    # Not by recursion: folders may be nested more deeply than Python's calls.
    waiting = _children(folder)
    while waiting:
        item = waiting.pop()
        if item.is_dir(follow_symlinks=False):
            waiting += _children(item.path)
            continue
        try:
            status = item.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if status.st_nlink >= min_links and (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total
