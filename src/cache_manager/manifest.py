"""What an entry holds: size and hash of each file, written last, checked before use."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.training.base_model import file_sha256

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1


class BadEntryError(Exception):
    """An entry is not what its manifest says, or has none that can be read."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An entry's content.

    Attributes:
        key: the entry's key.
        key_document: what the key is the hash of.
        model_name: base model.
        created: seconds since 1970.
        files: size in bytes and sha256 by file name.
    """

    key: str
    key_document: dict[str, Any]
    model_name: str
    created: float
    files: dict[str, dict[str, Any]]

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(int(file["size"]) for file in self.files.values())


def describe(folder: Path, *, key: str, key_document: dict[str, Any], model_name: str) -> Manifest:
    """Hashes the files of a folder."""
    files = {path.name: _describe_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    return Manifest(key=key, key_document=key_document, model_name=model_name, created=time.time(), files=files)


def _describe_file(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": file_sha256(path)}


def write(manifest: Manifest, folder: Path) -> None:
    """Writes the manifest into its folder."""
    document = {"schema": MANIFEST_SCHEMA, **asdict(manifest)}
    (folder / MANIFEST).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """Reads an entry's manifest.

    Raises:
        BadEntryError: there is none, or it cannot be read.
    """
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if document.pop("schema") != MANIFEST_SCHEMA:
            raise BadEntryError(f"{folder} was written by another version")
        return Manifest(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadEntryError(f"{folder} has no readable {MANIFEST} ({error})") from error


def check(folder: Path) -> Manifest:
    """Reads the manifest and compares every file with it, by hash.

    Raises:
        BadEntryError: names the first file that differs.
    """
    manifest = read(folder)
    if manifest.key != folder.name:
        raise BadEntryError(f"{folder} holds the entry {manifest.key}")
    for name, expected in manifest.files.items():
        path = folder / name
        # A name out of a manifest must not lead out of its folder.
        if path.parent != folder or path.is_symlink() or not path.is_file():
            raise BadEntryError(f"{path} is missing or not a plain file")
        if _describe_file(path) != expected:
            raise BadEntryError(f"{path} is not the file that was committed")
    return manifest
