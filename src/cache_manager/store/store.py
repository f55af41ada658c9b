"""Entries on disk: whole or absent, whatever is killed, and a bad one is a miss, never a hit.

An entry is assembled in a staging folder and gets its name by one rename. Entries never change after that; each
holds its own names of its files, so that no other folder has to be right for an entry to be right.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from src.cache_manager.store.assemble import fill, manifest_room, seal
from src.cache_manager.store.budget import Staging
from src.cache_manager.store.document import digest_of
from src.cache_manager.store.entries import Entries
from src.cache_manager.store.evict import make_room
from src.cache_manager.store.manifest import Manifest
from src.cache_manager.store.verify import FOREIGN, OK, Finding, inspect
from src.cli.errors import RequestError
from src.disk.durable import delete, flush
from src.disk.owner import unique_name

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_PLACE_ATTEMPTS = 5
# The lock only saves work: after this long a reservation proceeds without it.
_LOCK_TIMEOUT_SECONDS = 60.0

log = logging.getLogger("finetune.cache")


class CacheError(Exception):
    """The cache failed and is unchanged. The message is one sentence."""


class Store(Entries):
    """The cache."""

    def lookup(self, key: str) -> Path | None:
        """Returns the entry's folder if it is whole, as far as `inspect` sees without reading every byte.

        A bad entry is quarantined and is a miss; one of another version is left alone and is a miss.
        """
        finding = inspect(self.layout, key)
        if finding.state == OK:
            self.usage.note_use(key)
            return self.path(key)
        if self.path(key).exists() and finding.state != FOREIGN:
            self.quarantine(finding)
        return None

    def quarantine(self, finding: Finding) -> None:
        """Moves a bad entry to the quarantine; a whole one that has replaced it in the meantime is put back."""
        log.warning(
            "cache: %.12s is %s (%s): moving it to %s",
            finding.key,
            finding.state,
            "; ".join(finding.problems[:3]),
            self.layout.quarantine,
        )
        quarantined = self.layout.quarantine / f"{finding.key}+{unique_name()}"
        # In use, or another process may remove it before it has its new time, or while it is hashed.
        with self.usage.lease(finding.key):
            try:
                self.layout.quarantine.mkdir(parents=True, exist_ok=True)
                self.path(finding.key).rename(quarantined)
                # It is kept for a week from now on, and a rename leaves the folder's time as it was.
                os.utime(quarantined)
            except OSError as error:
                # Gone already, or a cache that may only be read.
                log.debug("cache: %s stays where it is (%s)", finding.key, error)
                return
            if inspect(self.layout, finding.key, every_byte=True, folder=quarantined).state == OK:
                self._place(quarantined, finding.key)

    def commit(
        self,
        files: Mapping[str, Path],
        *,
        document: dict[str, Any],
        model_name: str,
        revision: str | None = None,
        hashes: Mapping[str, str] | None = None,
    ) -> Path:
        """Makes an entry of files, which stay where they are; returns its folder.

        An existing entry of the same key is kept if it is whole, else quarantined and replaced.

        Args:
            files: path by name in the entry. On the cache's own file system they are linked, not copied, if they lie
                in its training folder.
            document: everything that decided the model; its digest is the key.
            model_name: what `ls` shows.
            revision: of the base model.
            hashes: sha256 by name that the files must have, where it is known.

        Raises:
            RequestError: the byte limit leaves no room, or a file does not match `hashes`.
            CacheError: the disk is full.
        """
        key = digest_of(document)
        manifest = Manifest(key=key, document=document, model_name=model_name, revision=revision, created=0.0)
        with self.staging() as staging:
            filled = fill(
                staging,
                files,
                hashes=hashes,
                layout=self.layout,
                blobs=self.blobs,
                reserve=lambda size: self.reserve(staging, size + manifest_room(manifest, files)),
            )
            return self.finish(staging, manifest, filled)

    def finish(self, staging: Staging, manifest: Manifest, hashes: Mapping[str, str]) -> Path:
        """Writes the manifest of a filled staging folder and renames it to an entry; returns the entry's folder.

        Args:
            staging: the folder, with every file in it.
            manifest: all but files and time.
            hashes: sha256 by name.
        """
        whole = seal(staging, manifest, hashes)
        if self._place(staging.folder, whole.key):
            self.usage.note_use(whole.key)
            self.blobs.add(self.path(whole.key), whole)
        return self.path(whole.key)

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """Gives a staging folder, which is deleted when the block ends.

        Raises:
            CacheError: the disk became full in the block.
        """
        staging: Staging | None = None
        try:
            staging = Staging(self.layout)
            yield staging
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise CacheError(
                f"the disk of {self.layout.root} is full: free some space (`gc` helps); the cache is as it was"
            ) from error
        finally:
            if staging is not None:
                delete(staging.folder)

    def lock(self, name: str) -> FileLock:
        """Returns a lock that saves two processes from doing the same work. Nothing depends on it."""
        self.layout.locks.mkdir(parents=True, exist_ok=True)
        return FileLock(self.layout.locks / f"{name}.lock")

    def reserve(self, staging: Staging, size: int) -> None:
        """Reserves room for bytes that are about to be written into a staging folder; evicts entries if needed.

        Raises:
            RequestError: no room can be made.
        """
        if self.budget.limit is None:
            return
        lock = self.lock("reserve")
        try:
            waiting: Any = lock.acquire(timeout=_LOCK_TIMEOUT_SECONDS)
        except (Timeout, OSError, NotImplementedError) as error:
            log.debug("cache: reserving without a lock (%s)", error)
            waiting = nullcontext()
        with waiting:
            self.budget.reserve(staging, size, make_room=lambda excess: make_room(self, excess))

    def _place(self, folder: Path, key: str) -> bool:
        """Renames a folder to an entry; returns False if a whole entry of that key exists.

        Raises:
            RequestError: an entry of another version has the key.
        """
        self.layout.entries.mkdir(parents=True, exist_ok=True)
        for _ in range(_PLACE_ATTEMPTS):
            try:
                # Checked, not only tried: FUSE file systems may let a rename replace a folder that is not empty.
                if not self.path(key).exists():
                    folder.rename(self.path(key))
                    flush(self.layout.entries)
                    return True
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
            finding = inspect(self.layout, key, every_byte=True)
            if finding.state == OK:
                return False
            if finding.state == FOREIGN and self.path(key).exists():
                raise RequestError(f"the entry {key[:16]} is of another version of this cache: remove it with `rm`")
            self.quarantine(finding)
        raise CacheError(f"the entry {key[:16]} cannot be replaced: look into {self.path(key)}")
