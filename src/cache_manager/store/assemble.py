"""Assembles an entry in its staging folder: files by link or copy, and the manifest last."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from src.cache_manager.store.blobs import Blobs
from src.cache_manager.store.budget import Staging
from src.cache_manager.store.layout import Layout
from src.cache_manager.store.manifest import MANIFEST, MANIFEST_COPY, File, Manifest, check_name
from src.cli.errors import RequestError
from src.cli.terminal import printable
from src.disk.durable import copy_hashed, file_sha256, flush, open_regular, share

# Entries are read-only: they share files.
_MODE = 0o444


def fill(
    staging: Staging,
    files: Mapping[str, Path],
    *,
    hashes: Mapping[str, str] | None,
    layout: Layout,
    blobs: Blobs,
    reserve: Callable[[int], None],
) -> dict[str, str]:
    """Brings files into a staging folder; returns sha256 by name.

    Args:
        staging: the folder.
        files: path by name in the entry.
        hashes: sha256 by name that the files must have, where it is known.
        layout: the cache.
        blobs: of the cache.
        reserve: reserves so many bytes before they are written.

    Raises:
        RequestError: a file does not match `hashes` or changes while it is read, or there is no room.
    """
    for name in files:
        check_name(name)
    if hashes is not None and hashes.keys() != files.keys():
        odd = sorted(hashes.keys() ^ files.keys())[0]
        raise RequestError(f"{odd} is missing, or not in the manifest: nothing was kept")
    # Known hashes are compared while copying: the files are read once.
    expected = dict(hashes) if hashes is not None else {name: file_sha256(path) for name, path in files.items()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    fresh = [name for name in files if not blobs.link(expected[name], staging.path(name), size=sizes[name])]
    reserve(sum(sizes[name] for name in fresh))
    for name in fresh:
        source, target = files[name], staging.path(name)
        # Nobody else writes to the training folder: its files are linked, not copied.
        if hashes is None and layout.training in source.parents and share(source, target):
            flush(target)
        elif _copied(source, target, size=sizes[name]) != expected[name]:
            raise RequestError(
                f"{source} has other bytes than its manifest says, or changed while it was read: nothing was kept"
            )
    return expected


def _copied(source: Path, target: Path, *, size: int) -> str:
    with open_regular(source) as reader:
        return copy_hashed(reader, target, size=size)


def manifest_room(manifest: Manifest, names: Iterable[str]) -> int:
    """Returns an upper bound on the bytes of a manifest and its copy that list files of these names."""
    # A file's line has less than 400 bytes beside its name, of which JSON may write each character as 12 bytes.
    return 2 * (256 + len(manifest.to_json()) + sum(400 + 12 * len(name) for name in names))


def seal(staging: Staging, manifest: Manifest, hashes: Mapping[str, str]) -> Manifest:
    """Writes the manifest of a filled folder and its copy, once all files are flushed; returns the manifest.

    Args:
        staging: the folder.
        manifest: all but files and time.
        hashes: sha256 by name.
    """
    files = {name: _describe(staging.folder / name, sha256) for name, sha256 in hashes.items()}
    # They may come from paths, which are not always Unicode.
    name, revision = printable(manifest.model_name), manifest.revision and printable(manifest.revision)
    created = round(time.time(), 3)
    whole = dataclasses.replace(manifest, model_name=name, revision=revision, created=created, files=files)
    for subfolder in sorted(path for path in staging.folder.rglob("*") if path.is_dir()):
        flush(subfolder)
    for name in (MANIFEST_COPY, MANIFEST):
        path = staging.folder / name
        with path.open("xb") as file:
            file.write(whole.to_json())
            file.flush()
            os.fsync(file.fileno())
    flush(staging.folder)
    return whole


def _describe(path: Path, sha256: str) -> File:
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(_MODE & ~umask)
    status = path.stat()
    return File(size=status.st_size, sha256=sha256, inode=status.st_ino, mtime_ns=status.st_mtime_ns)
