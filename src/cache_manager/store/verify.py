"""Whether an entry is what was committed: by its files' stamps (size, inode, mtime), or by hashing every byte."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.cache_manager.store.layout import Layout, is_key, is_real_folder
from src.cache_manager.store.manifest import (
    MANIFEST_COPY,
    MAX_MANIFEST_BYTES,
    BadEntryError,
    File,
    Manifest,
    copy_is_right,
    is_own_file,
    read,
)
from src.cli.terminal import printable
from src.disk.durable import file_sha256, read_regular, write_whole

OK, CORRUPT, INCOMPLETE, FOREIGN = "ok", "corrupt", "incomplete", "foreign"
COPY_PROBLEM = f"{MANIFEST_COPY} is not a copy of the manifest"

log = logging.getLogger("finetune.cache")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The state of one entry.

    Attributes:
        key: the name of its folder.
        state: ok, corrupt, incomplete (something is missing) or foreign (of another version, or not written
            by this program).
        problems: one phrase each.
        bad_files: names of the files that are missing or wrong.
        manifest: None if it cannot be read.
    """

    key: str
    state: str
    problems: tuple[str, ...] = ()
    bad_files: tuple[str, ...] = ()
    manifest: Manifest | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns its fields in `verify --json`."""
        return {"key": self.key, "state": self.state, "problems": list(self.problems)}


def inspect(layout: Layout, key: str, *, every_byte: bool = False, folder: Path | None = None) -> Finding:
    """Checks an entry.

    Args:
        layout: the cache.
        key: the entry.
        folder: its folder, if not among the entries.
        every_byte: hash every file. Otherwise a file is hashed only if its inode, time or size have changed since it
            was hashed last, which every write by way of the file system does; rot on the disk itself does not.
    """
    folder = folder or layout.entry(key)
    if not is_key(key) or not is_real_folder(folder):
        return Finding(key=key, state=FOREIGN, problems=("not an entry of this cache",))
    try:
        manifest = read(folder)
    except BadEntryError as error:
        return Finding(key=key, state=error.state, problems=(str(error),))
    if manifest.key != key:
        problem = f"its manifest is that of {manifest.key}"
        return Finding(key=key, state=CORRUPT, problems=(problem,))
    if every_byte and not manifest.has_its_key():
        return Finding(key=key, state=CORRUPT, problems=("its document does not hash to its key",), manifest=manifest)
    try:
        return _inspect_files(layout, manifest, folder=folder, every_byte=every_byte)
    except FileNotFoundError:
        return Finding(key=key, state=INCOMPLETE, problems=("it was removed in the meantime",))
    except (OSError, RecursionError) as error:
        # One odd entry is one bad row, never the end of a command.
        problem = f"its folder cannot be read ({getattr(error, 'strerror', 'it is nested too deeply')})"
        return Finding(key=key, state=CORRUPT, problems=(problem,), manifest=manifest)


def _inspect_files(layout: Layout, manifest: Manifest, *, folder: Path, every_byte: bool) -> Finding:
    present = dict(files_in(folder))
    problems: list[str] = []
    bad: list[str] = []
    missing = manifest.files.keys() - present.keys()
    unchecked: dict[str, os.stat_result] = {}
    for name, expected in manifest.files.items():
        if name in missing:
            problems.append(f"{name} is missing")
        elif not stat.S_ISREG(present[name].st_mode):
            problems.append(f"{name} is not a regular file")
        elif present[name].st_size != expected.size:
            problems.append(f"{name} has {present[name].st_size:,} bytes instead of {expected.size:,}")
        else:
            if every_byte or not expected.has_stamp_of(present[name]):
                unchecked[name] = present[name]
            continue
        bad.append(name)
    problems += [f"{printable(name)} was not committed" for name in sorted(present.keys() - manifest.files.keys())]
    wrong = _wrong_by_hash(layout, manifest, unchecked, folder=folder, every_byte=every_byte)
    problems += [f"{name} has other bytes than were committed" for name in wrong]
    if every_byte and not copy_is_right(folder):
        # No lookup needs it, but `repair` does.
        problems.append(COPY_PROBLEM)
    state = OK if not problems else INCOMPLETE if missing and len(problems) == len(missing) else CORRUPT
    return Finding(key=manifest.key, state=state, problems=tuple(problems), bad_files=(*bad, *wrong), manifest=manifest)


def files_in(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yields name and status of an entry's files, the manifest aside; links are not followed."""
    with os.scandir(folder) as items:
        for item in items:
            name = prefix + item.name
            if is_own_file(name):
                continue
            if item.is_dir(follow_symlinks=False):
                yield from files_in(folder / item.name, f"{name}/")
            else:
                try:
                    yield name, item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue


def _wrong_by_hash(
    layout: Layout, manifest: Manifest, files: dict[str, os.stat_result], *, folder: Path, every_byte: bool
) -> list[str]:
    """Hashes files; returns the names of the wrong ones. New stamps of right ones are kept for the next time."""
    known = {} if every_byte or not files else _read_stamps(layout, manifest.key)
    wrong, stamps = [], {}
    for name, status in files.items():
        stamp = [status.st_size, status.st_ino, status.st_mtime_ns]
        if known.get(name) == stamp:
            continue
        try:
            right = file_sha256(folder / name, follow_links=False) == manifest.files[name].sha256
        except OSError as error:
            log.warning("cache: %s cannot be read (%s)", name, error)
            right = False
        if right:
            stamps[name] = stamp
        else:
            wrong.append(name)
    new = {name: stamp for name, stamp in stamps.items() if not _is_stamp_of(manifest.files[name], stamp)}
    if new:
        _write_stamps(layout, manifest.key, {**_read_stamps(layout, manifest.key), **new})
    return wrong


def _is_stamp_of(file: File, stamp: list[int]) -> bool:
    return [file.size, file.inode, file.mtime_ns] == stamp


def _read_stamps(layout: Layout, key: str) -> dict[str, Any]:
    try:
        stamps = json.loads(read_regular(layout.checked / key, max_bytes=MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _write_stamps(layout: Layout, key: str, stamps: dict[str, Any]) -> None:
    try:
        layout.checked.mkdir(parents=True, exist_ok=True)
        write_whole(layout.checked / key, json.dumps(stamps).encode())
    except OSError as error:
        # A read-only cache or a full disk: the files are hashed again next time.
        log.debug("cache: stamps of %s are not kept (%s)", key, error)
