"""Files by their sha256: hard links to the entries' files, so that entries share equal files.

No entry needs its blobs: a missing or bad blob costs space, never a model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from src.cache_manager.store.layout import Layout, is_key
from src.cache_manager.store.manifest import BadEntryError, Manifest, read
from src.disk.durable import delete, discard, file_sha256, share
from src.disk.owner import unique_name

log = logging.getLogger("finetune.cache")


class Blobs:
    """The folder of blobs."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def link(self, sha256: str, target: Path) -> bool:
        """Links a blob to `target`; returns False if no blob has the right bytes."""
        blob = self._layout.blob(sha256)
        try:
            if not share(blob, target):
                return False
        except FileNotFoundError:
            return False
        if file_sha256(target) == sha256:
            return True
        log.warning("cache: the blob %.12s holds other bytes than its name says: removing it", sha256)
        target.unlink()
        discard(blob, trash=self._layout.trash)
        return False

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Links the files of a new entry into the blobs."""
        for name, file in manifest.files.items():
            blob = self._layout.blob(file.sha256)
            try:
                blob.parent.mkdir(parents=True, exist_ok=True)
                share(folder / name, blob)
            except FileExistsError:
                continue
            except OSError as error:
                # The entry was evicted in the meantime, or the disk is full: no entry needs a blob.
                log.debug("cache: no blob of %s (%s)", name, error)

    def all(self) -> Iterator[Path]:
        """Yields every blob."""
        for folder in self._layout.blobs.glob("[0-9a-f][0-9a-f]"):
            yield from (path for path in folder.iterdir() if is_key(path.name))

    def sweep(self) -> int:
        """Removes the blobs that no entry shares; returns the bytes that were freed."""
        unused = [path for path in self.all() if _links(path) == 1]
        if not unused:
            return 0
        # Without hard links (reflinks) a blob has one name although entries share its blocks.
        needed = self._referenced()
        return sum(self._remove_unused(path) for path in unused if path.name not in needed)

    def _remove_unused(self, path: Path) -> int:
        self._layout.trash.mkdir(parents=True, exist_ok=True)
        trash_path = self._layout.trash / unique_name()
        try:
            path.rename(trash_path)
            status = trash_path.stat()
            if status.st_nlink > 1:
                # Another process has linked it into a new entry since.
                trash_path.rename(path)
                return 0
        except FileNotFoundError:
            return 0
        delete(trash_path)
        return status.st_size

    def _referenced(self) -> set[str]:
        hashes: set[str] = set()
        try:
            folders = list(self._layout.entries.iterdir())
        except FileNotFoundError:
            return hashes
        for folder in folders:
            try:
                hashes.update(file.sha256 for file in read(folder).files.values())
            except BadEntryError as error:
                log.debug("cache: %s: %s", folder.name, error)
        return hashes


def _links(path: Path) -> int:
    try:
        return path.lstat().st_nlink
    except FileNotFoundError:
        return 0
