"""The folders below the cache's root."""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from src.cli.working_folder import working_folder

# Another layout gets another folder, so that no version reads or removes another's entries.
_LAYOUT = "v2"
_KEY = re.compile(r"[0-9a-f]{64}")


def default_root() -> Path:
    """Returns $FINETUNE_CACHE_DIR, else a folder in the platform's cache folder: never the hub's own cache."""
    if configured := os.environ.get("FINETUNE_CACHE_DIR"):
        # Relative to where the command was typed: `bazel run` starts programs elsewhere.
        return working_folder() / Path(configured).expanduser()
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "finetune-repo" / "models"


def is_key(name: str) -> bool:
    """Whether a name is a key: 64 hexadecimal digits."""
    return _KEY.fullmatch(name) is not None


def key_of(folder: Path) -> str:
    """Returns the key of an entry's folder, also in the quarantine: KEY+OWNER."""
    return folder.name.partition("+")[0]


def is_real_folder(path: Path) -> bool:
    """Whether a path is a folder, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


@dataclass(frozen=True)
class Layout:
    """The folders of a cache. None of them has to exist.

    Attributes:
        root: $FINETUNE_CACHE_DIR. Renames and hard links need all of it on one file system.
    """

    root: Path

    @cached_property
    def base(self) -> Path:
        """All that this version of the cache reads and writes."""
        return self.root / _LAYOUT

    @cached_property
    def entries(self) -> Path:
        """A folder for each key: the model's files and manifest.json. Each was whole when it got its name."""
        return self.base / "entries"

    @cached_property
    def blobs(self) -> Path:
        """A hard link to each file, by sha256, so that entries share equal files."""
        return self.base / "blobs"

    @cached_property
    def incoming(self) -> Path:
        """Entries being written, named by owner and reserved bytes."""
        return self.base / "incoming"

    @cached_property
    def trash(self) -> Path:
        """What is being deleted."""
        return self.base / "trash"

    @cached_property
    def quarantine(self) -> Path:
        """Bad entries, kept for a while to be examined."""
        return self.base / "quarantine"

    @cached_property
    def training(self) -> Path:
        """Training folders: models before they are committed, with their checkpoints."""
        return self.base / "training"

    @cached_property
    def locks(self) -> Path:
        """Lock files. They save work; nothing depends on them."""
        return self.base / "locks"

    @cached_property
    def pins(self) -> Path:
        """An empty file for each entry that must not be evicted."""
        return self.base / "pins"

    @cached_property
    def used(self) -> Path:
        """An empty file for each entry, whose mtime is the entry's last use."""
        return self.base / "used"

    @cached_property
    def leases(self) -> Path:
        """An empty file for each process that uses an entry: KEY+OWNER."""
        return self.base / "leases"

    @cached_property
    def checked(self) -> Path:
        """For entries whose files got new inodes (a restored backup): the stamps with which they were hashed."""
        return self.base / "checked"

    @cached_property
    def evictions(self) -> Path:
        """One line for each eviction, written before the entry goes."""
        return self.base / "evictions.jsonl"

    def entry(self, key: str) -> Path:
        """Returns where the entry of a key is or would be."""
        return self.entries / key

    def blob(self, sha256: str) -> Path:
        """Returns where the blob of a hash is or would be."""
        return self.blobs / sha256[:2] / sha256
