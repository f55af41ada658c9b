"""Writes that are whole or absent after a kill or a power cut, and deletions that are never seen half done."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from src.disk.owner import unique_name

# ioctl of Linux that makes two files share their blocks (btrfs, XFS): ioctl_ficlone(2).
_FICLONE = 0x40049409
_CHUNK = 8 << 20


def canonical_json(document: Any) -> str:
    """Returns JSON that is the same text for the same content."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_json(path: Path, document: Any) -> None:
    """Writes canonical JSON."""
    path.write_text(canonical_json(document), encoding="utf-8")


def open_regular(path: Path, *, follow_links: bool = True) -> BufferedReader:
    """Opens a file to be read, if it is a regular one: a pipe would block for ever, a device never ends.

    Raises:
        OSError: it is anything else, or cannot be opened.
    """
    # First by its name, where a link may lead to a device: to open one may already do something.
    if follow_links and not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Returns what a regular file holds; links are not followed.

    Raises:
        OSError: it is not a regular file, cannot be read or is larger than `max_bytes`.
    """
    with open_regular(path, follow_links=False) as file:
        # A sparse file may claim terabytes.
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
        return file.read()


def file_sha256(path: Path, *, follow_links: bool = True) -> str:
    """Returns the hash of a regular file's bytes, as hexadecimal digits."""
    with open_regular(path, follow_links=follow_links) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(folder: Path) -> None:
    """Flushes everything below a folder, so that a rename which follows outlives a power cut with its content."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def flush(path: Path) -> None:
    """Makes sure that a file's bytes, or the names in a folder, outlive a power cut.

    Flush a folder after a rename in it, and before removing what the rename replaces.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that appears under its name at once, with its bytes on the disk."""
    temporary = path.with_name(f".{path.name}.{unique_name()}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def append_line(path: Path, line: str) -> None:
    """Appends one line to a file and flushes it; lines of several processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_hashed(reader: BinaryIO, target: Path, *, size: int) -> str:
    """Writes at most `size` bytes to a new file and flushes it; returns the sha256 of what was written."""
    digest = hashlib.sha256()
    with target.open("xb") as writer:
        while size > 0 and (chunk := reader.read(min(_CHUNK, size))):
            writer.write(chunk)
            digest.update(chunk)
            size -= len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def share(source: Path, target: Path) -> bool:
    """Makes a second name for a file's blocks, by hard link or reflink; returns whether the file system could.

    Raises:
        FileNotFoundError: there is no source.
        FileExistsError: there is a target.
    """
    try:
        os.link(source, target, follow_symlinks=False)
        return True
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        # The file system has no hard links, or this file has all that it allows. The caller reports a full disk.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        return _clone(source, target)


def _clone(source: Path, target: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            os.fsync(writer.fileno())
            return True
        except OSError:
            target.unlink()
            return False


def discard(path: Path, *, trash: Path) -> bool:
    """Moves a file or folder to the trash in one rename, then deletes it; returns whether it existed."""
    trash.mkdir(parents=True, exist_ok=True)
    trash_path = trash / unique_name()
    try:
        path.rename(trash_path)
    except FileNotFoundError:
        return False
    delete(trash_path)
    return True


def delete(path: Path) -> None:
    """Deletes a file, or a folder and its content; what another process deletes meanwhile is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_only_missing)
    else:
        path.unlink(missing_ok=True)


def _only_missing(_function: object, _path: str, error: object) -> None:
    problem = error[1] if isinstance(error, tuple) else error
    if isinstance(problem, BaseException) and not isinstance(problem, FileNotFoundError):
        raise problem
