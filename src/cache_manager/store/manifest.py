"""An entry's manifest: key, document, and size and hash of each file. Written last; its paths are never trusted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from src.cache_manager.store.document import digest_of
from src.cache_manager.store.layout import is_key, key_of
from src.disk.durable import read_regular

MANIFEST = "manifest.json"
# A copy: `repair` restores the manifest from it.
MANIFEST_COPY = ".manifest-copy.json"
MANIFEST_SCHEMA = 2
# Of 40,000 files; there are entries with some 15.
MAX_MANIFEST_BYTES = 16 << 20
_MAX_NAME, _MAX_PART_BYTES = 1000, 255
# The end of the year 9999, and of what a file system can count.
MAX_SECONDS, _MAX_INTEGER = 253_402_300_799, 1 << 63
_OWN_FILES = (MANIFEST, MANIFEST_COPY)
# Nearly all names: a fast path.
_PLAIN_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)

log = logging.getLogger("finetune.cache")


class BadEntryError(Exception):
    """An entry does not match its manifest, or has none that can be read.

    Attributes:
        state: `corrupt`, `incomplete`, or `foreign` (of another version, or not written by this program).
    """

    def __init__(self, state: str, problem: str) -> None:
        super().__init__(problem)
        self.state = state


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of an entry.

    Attributes:
        size: bytes.
        sha256: of its bytes.
        inode: of the file when it was hashed.
        mtime_ns: its mtime then. While inode, mtime and size are the same, it need not be hashed again.
    """

    size: int
    sha256: str
    inode: int
    mtime_ns: int

    def has_stamp_of(self, status: os.stat_result) -> bool:
        """Whether a file is still the one that was hashed, by its size, inode and mtime."""
        return (self.size, self.inode, self.mtime_ns) == (status.st_size, status.st_ino, status.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An entry's content.

    Attributes:
        key: the sha256 of `document` in canonical JSON.
        document: everything that decided the model.
        model_name: base model, or the name that an import was given.
        revision: commit or content hash of the base model, where it is known.
        created: seconds since 1970.
        files: by name, which may hold slashes.
    """

    key: str
    document: dict[str, Any]
    model_name: str
    revision: str | None
    created: float
    files: dict[str, File] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Total size of the files."""
        return sum(file.size for file in self.files.values())

    def has_its_key(self) -> bool:
        """Whether the key is the hash of the document."""
        try:
            return digest_of(self.document) == self.key
        except (ValueError, RecursionError):
            # It holds NaN, or is nested too deeply: no key was ever made of it.
            return False

    def to_json(self) -> bytes:
        """Returns the bytes of manifest.json."""
        return seal_manifest({"schema": MANIFEST_SCHEMA, **asdict(self)})


def seal_manifest(fields: dict[str, Any]) -> bytes:
    """Returns a manifest's fields as JSON, with the sha256 of all bytes before it as the last field.

    A bit that flips in a name or in a hash would otherwise leave a manifest that reads well.
    """
    body = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode().removesuffix(b"}")
    return body + _seal_of(body)


def _seal_of(body: bytes) -> bytes:
    return b',"seal":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def parse(data: bytes, *, what: str) -> Manifest:
    """Reads a manifest and checks every field of it: it may come from anywhere.

    Args:
        data: the bytes of manifest.json.
        what: names it in an error.

    Raises:
        BadEntryError: it was not written by this version, or is damaged.
    """
    if not data.strip(b"\0 \n"):
        raise BadEntryError("corrupt", f"{what} is empty")
    try:
        fields = json.loads(data)
        schema = fields.pop("schema")
        if schema != MANIFEST_SCHEMA:
            problem = f"{what} has schema {str(schema)[:20]}, this version reads {MANIFEST_SCHEMA}"
            raise BadEntryError("foreign", problem)
        del fields["seal"]
        if not data.endswith(_seal_of(data[: -len(_seal_of(b""))])):
            raise BadEntryError("corrupt", f"{what} has other bytes than were written")
        files = {check_name(name): File(**file) for name, file in fields.pop("files").items()}
        manifest = Manifest(files=files, **fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadEntryError("corrupt", f"{what} cannot be read ({str(error)[:120]})") from error
    _check_fields(manifest, what=what)
    return manifest


def _check_fields(manifest: Manifest, *, what: str) -> None:
    valid = (
        isinstance(manifest.key, str)
        and is_key(manifest.key)
        and isinstance(manifest.document, dict)
        and isinstance(manifest.model_name, str)
        and isinstance(manifest.revision, str | None)
        and type(manifest.created) in (int, float)
        and 0 <= manifest.created <= MAX_SECONDS
        and all(_is_valid(file) for file in manifest.files.values())
    )
    if not valid:
        raise BadEntryError("corrupt", f"{what} has an invalid field")


def _is_valid(file: File) -> bool:
    return (
        type(file.size) is type(file.inode) is type(file.mtime_ns) is int
        and 0 <= min(file.size, file.inode, file.mtime_ns) <= max(file.size, file.inode, file.mtime_ns) < _MAX_INTEGER
        and isinstance(file.sha256, str)
        and is_key(file.sha256)
    )


def check_name(name: str) -> str:
    """Returns a file name of a manifest if it stays inside the entry.

    Raises:
        ValueError: it does not, or takes the place of the manifest.
    """
    if _PLAIN_NAME.fullmatch(name) and name not in _OWN_FILES:
        return name
    path = PurePosixPath(name)
    inside = name not in ("", ".") and not path.is_absolute() and ".." not in path.parts and path.as_posix() == name
    # What does not print is no Unicode, or steers a terminal.
    plain = name.isprintable() and "\\" not in name and len(name) <= _MAX_NAME
    if not inside or not plain or path.parts[0] in _OWN_FILES or any(map(_is_too_long, path.parts)):
        raise ValueError(f"the file name {name[:80]!a} is not allowed")
    return name


def _is_too_long(part: str) -> bool:
    return len(part.encode()) > _MAX_PART_BYTES


def read(folder: Path, *, name: str = MANIFEST) -> Manifest:
    """Reads an entry's manifest, or its copy.

    Raises:
        BadEntryError: it is missing or cannot be read.
    """
    return parse(_read_file(folder, name), what=name)


def recover(folder: Path) -> Manifest | None:
    """Returns the manifest of an entry's folder, or else its copy; None if neither is that of its key."""
    for name in (MANIFEST, MANIFEST_COPY):
        try:
            manifest = read(folder, name=name)
        except BadEntryError as error:
            log.debug("cache: %s: %s", folder.name, error)
            continue
        if manifest.key == key_of(folder) and manifest.has_its_key():
            return manifest
    return None


def copy_is_right(folder: Path) -> bool:
    """Whether the copy of an entry's manifest is a copy of it."""
    try:
        return _read_file(folder, MANIFEST_COPY) == _read_file(folder, MANIFEST)
    except BadEntryError:
        return False


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return read_regular(folder / name, max_bytes=MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise BadEntryError("incomplete", f"{name} is missing") from None
    except OSError as error:
        raise BadEntryError("corrupt", f"{name} cannot be read ({error.strerror})") from error


def is_own_file(name: str) -> bool:
    """Whether a file of an entry is the manifest or its copy."""
    return name in _OWN_FILES
