"""Files by their sha256: hard links to the entries' files, so that entries share equal files.

No entry needs its blobs: a missing or bad blob costs space, never a model.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from src.cache_manager.store.layout import Layout, is_key, is_real_folder
from src.cache_manager.store.manifest import Manifest, recover
from src.disk.durable import delete, discard, file_sha256, share
from src.disk.owner import unique_name

log = logging.getLogger("finetune.cache")


class Blobs:
    """The folder of blobs."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def link(self, sha256: str, target: Path, *, size: int) -> bool:
        """Links a blob of that size to `target`; returns False if no blob has the right bytes."""
        blob = self._layout.blob(sha256)
        try:
            if not is_file(blob, size=size) or not share(blob, target):
                return False
        except FileNotFoundError:
            return False
        if has_hash(target, sha256):
            return True
        log.warning("cache: the blob %.12s holds other bytes than its name says: removing it", sha256)
        target.unlink()
        discard(blob, trash=self._layout.trash)
        return False

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Links the files of a new entry into the blobs."""
        for name, file in manifest.files.items():
            self.add_file(folder / name, file.sha256)

    def add_file(self, path: Path, sha256: str) -> None:
        """Links a file into the blobs."""
        blob = self._layout.blob(sha256)
        try:
            blob.parent.mkdir(parents=True, exist_ok=True)
            share(path, blob)
        except FileExistsError:
            return
        except OSError as error:
            # The file was evicted in the meantime, or the disk is full: no entry needs a blob.
            log.debug("cache: no blob of %s (%s)", path, error)

    def all(self) -> Iterator[Path]:
        """Yields every blob."""
        for folder in self._layout.blobs.glob("[0-9a-f][0-9a-f]"):
            if is_real_folder(folder):
                yield from (path for path in folder.iterdir() if is_key(path.name))

    def remove_bad(self, sizes: Mapping[str, int]) -> None:
        """Hashes the blobs and removes those that are not what their name says.

        Args:
            sizes: bytes by sha256, of the files of all manifests. Blobs that none of them names are left to `sweep`.
        """
        for blob in list(self.all()):
            size = sizes.get(blob.name)
            if size is None or (is_file(blob, size=size) and has_hash(blob, blob.name)):
                continue
            log.warning("cache: the blob %.12s holds other bytes than its name says: removing it", blob.name)
            discard(blob, trash=self._layout.trash)

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
            status = trash_path.lstat()
            if status.st_nlink > 1:
                # Another process has linked it into a new entry since.
                trash_path.rename(path)
                return 0
        except FileNotFoundError:
            return 0
        delete(trash_path)
        return status.st_size

    def _referenced(self) -> set[str]:
        """Returns the hashes that entries need; the quarantined ones may be repaired."""
        hashes: set[str] = set()
        for parent in (self._layout.entries, self._layout.quarantine):
            for folder in parent.iterdir() if parent.is_dir() else ():
                manifest = recover(folder)
                if manifest is not None:
                    hashes.update(file.sha256 for file in manifest.files.values())
        return hashes


def is_file(path: Path, *, size: int) -> bool:
    """Whether a path is a regular file of that many bytes."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def has_hash(path: Path, sha256: str) -> bool:
    """Whether a regular file has the right bytes."""
    try:
        return file_sha256(path, follow_links=False) == sha256
    except OSError as error:
        log.warning("cache: %s cannot be read (%s)", path, error)
        return False


def _links(path: Path) -> int:
    try:
        return path.lstat().st_nlink
    except FileNotFoundError:
        return 0
