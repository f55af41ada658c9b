"""Entries on disk: whole or absent, whatever is killed, and a bad one is a miss, never a hit."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.cache_manager import manifest
from src.cache_manager.manifest import BadEntryError, Manifest
from src.training.artifact import flush_to_disk

# Layout of the root. Another layout gets another folder, so that no version reads another's entries.
_LAYOUT = "v1"

log = logging.getLogger("finetune.cache")


def default_root() -> Path:
    """Returns $FINETUNE_CACHE_DIR, else a folder in the platform's cache folder: never the hub's own cache."""
    if configured := os.environ.get("FINETUNE_CACHE_DIR"):
        return Path(configured).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "finetune-repo" / "models"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "finetune-repo" / "models"


class Store:
    """The cache's files."""

    def __init__(self, root: Path) -> None:
        """Takes the root, which is made when something is first written."""
        self.root = root
        self._entries = root / _LAYOUT / "entries"
        self._quarantine = root / _LAYOUT / "quarantine"

    def path(self, key: str) -> Path:
        """Returns where the entry of a key is or would be."""
        return self._entries / key

    def workspace(self, key: str) -> Path:
        """Returns the folder that the training of a key writes to, the same after a kill, so that it can go on."""
        return self.root / _LAYOUT / "training" / key

    def lookup(self, key: str) -> Path | None:
        """Returns the entry's folder if it is whole by hash; a bad one is put into quarantine and is a miss."""
        folder = self.path(key)
        if not folder.exists():
            return None
        try:
            manifest.check(folder)
        except BadEntryError as problem:
            log.warning("cache: %s: it is put aside in %s", problem, self._quarantine)
            self._quarantine.mkdir(parents=True, exist_ok=True)
            folder.rename(self._quarantine / f"{key}-{uuid.uuid4().hex}")
            return None
        return folder

    def commit(self, folder: Path, *, key: str, key_document: dict[str, Any], model_name: str) -> Path:
        """Moves a finished folder into the cache; its manifest is written last. Returns the entry's folder."""
        entry = manifest.describe(folder, key=key, key_document=key_document, model_name=model_name)
        manifest.write(entry, folder)
        flush_to_disk(folder)
        self._entries.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(self.path(key))
        except OSError:
            # Another process was first. Its entry is of the same recipe: it stands if it is whole.
            if self.lookup(key) is None:
                folder.rename(self.path(key))
            else:
                shutil.rmtree(folder)
        return self.path(key)

    def lock(self, key: str) -> FileLock:
        """Returns a lock that keeps two processes from training the same model. Only work depends on it."""
        folder = self.root / _LAYOUT / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock")

    def entries(self) -> list[tuple[Manifest | None, Path]]:
        """Returns every entry; the manifest is None where it cannot be read."""
        found: list[tuple[Manifest | None, Path]] = []
        for folder in sorted(self._entries.glob("*")):
            try:
                found.append((manifest.read(folder), folder))
            except BadEntryError:
                found.append((None, folder))
        return found
