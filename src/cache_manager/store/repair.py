"""Repairs entries from other copies of the same bytes, and quarantines the rest."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from src.cache_manager.store.blobs import has_hash, is_file
from src.cache_manager.store.layout import is_key, is_real_folder, key_of
from src.cache_manager.store.manifest import (
    MANIFEST,
    MANIFEST_COPY,
    File,
    Manifest,
    recover,
)
from src.cache_manager.store.store import CacheError, Store
from src.cache_manager.store.verify import COPY_PROBLEM, CORRUPT, INCOMPLETE, OK, Finding, inspect
from src.cli.errors import RequestError
from src.disk.durable import copy_hashed, discard, flush, open_regular
from src.disk.owner import unique_name

log = logging.getLogger("finetune.cache")


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was done with an entry: `restored`, `quarantined` or `left alone`."""

    key: str
    problems: tuple[str, ...]
    action: str


def repair(store: Store, keys: list[str]) -> list[Repair]:
    """Hashes entries and repairs or quarantines the bad ones; without keys, all entries, blobs and the quarantine.

    A file is restored from a blob, another entry or the quarantine, wherever its bytes are still right.
    """
    if not keys:
        store.blobs.remove_bad(_sizes(store))
    repairs = []
    for key in keys or sorted(store.keys()):
        finding = inspect(store.layout, key, every_byte=True)
        if finding.state in (CORRUPT, INCOMPLETE) and store.path(key).exists():
            repairs.append(_repair_entry(store, finding))
        elif finding.state == OK:
            store.blobs.add(store.path(key), _known(finding.manifest))
        elif store.path(key).exists():
            repairs.append(Repair(key=key, problems=finding.problems, action="left alone"))
    return repairs + ([] if keys else _restore_quarantined(store, {repair.key for repair in repairs}))


def _sizes(store: Store) -> dict[str, int]:
    """Returns the bytes of the files that entries need, quarantined ones too, by sha256."""
    sizes: dict[str, int] = {}
    for folder in (*map(store.path, store.keys()), *store.usage.quarantined()):
        manifest = recover(folder)
        if manifest is not None:
            sizes |= {file.sha256: file.size for file in manifest.files.values()}
    return sizes


def _known(manifest: Manifest | None) -> Manifest:
    if manifest is None:
        raise ValueError("an entry that is ok has a manifest")
    return manifest


def _repair_entry(store: Store, finding: Finding) -> Repair:
    """Quarantines a bad entry and restores it from right copies of its files, if all exist."""
    key, problems = finding.key, finding.problems
    if problems == (COPY_PROBLEM,):
        _write_copy(store, key)
        return Repair(key=key, problems=problems, action="restored")
    with store.usage.lease(key):
        store.quarantine(finding)
        try:
            restored = store.path(key).exists() or _restore(store, key)
        except (RequestError, CacheError) as error:
            # No room for it: it stays in the quarantine, and the others have their turn.
            restored, problems = False, (*problems, str(error))
    return Repair(key=key, problems=problems, action="restored" if restored else "quarantined")


def _write_copy(store: Store, key: str) -> None:
    """Copies the manifest of an entry that is whole. A kill leaves nothing in the entry."""
    manifest, copy = store.path(key) / MANIFEST, store.path(key) / MANIFEST_COPY
    store.layout.trash.mkdir(parents=True, exist_ok=True)
    temporary = store.layout.trash / unique_name()
    with store.usage.lease(key), open_regular(manifest) as reader:
        status = manifest.stat()
        copy_hashed(reader, temporary, size=status.st_size)
        temporary.chmod(status.st_mode)
        discard(copy, trash=store.layout.trash)
        temporary.rename(copy)
        flush(copy.parent)


def _restore_quarantined(store: Store, tried: set[str]) -> list[Repair]:
    """Restores entries that were quarantined earlier and have not been replaced."""
    repairs = []
    for key in sorted({key_of(path) for path in store.usage.quarantined()} - tried):
        if not is_key(key) or store.path(key).exists():
            continue
        try:
            if _restore(store, key):
                repairs.append(Repair(key=key, problems=("it was in quarantine",), action="restored"))
        except (RequestError, CacheError) as error:
            repairs.append(Repair(key=key, problems=("it is in quarantine", str(error)), action="quarantined"))
    return repairs


def _restore(store: Store, key: str) -> bool:
    """Commits an entry again from right copies of its files; returns whether all were found."""
    # Entries whose files are read count as in use: room may be made for this one.
    with ExitStack() as in_use:
        in_use.enter_context(store.usage.lease(key))
        for folder in [path for path in store.usage.quarantined() if key_of(path) == key]:
            manifest = recover(folder)
            if manifest is None:
                continue
            files = {name: _right_copy(store, name, file, in_use) for name, file in manifest.files.items()}
            found = {name: path for name, path in files.items() if path is not None}
            if len(found) < len(files):
                log.info("cache: %.12s: no right copy of %s", key, ", ".join(sorted(files.keys() - found.keys())))
                continue
            store.commit(
                found,
                document=manifest.document,
                model_name=manifest.model_name,
                revision=manifest.revision,
                hashes={name: file.sha256 for name, file in manifest.files.items()},
            )
            for old in [path for path in store.usage.quarantined() if key_of(path) == key]:
                discard(old, trash=store.layout.trash)
            return True
    return False


def _right_copy(store: Store, name: str, file: File, in_use: ExitStack) -> Path | None:
    """Returns a file with the right bytes: the blob, or that of any entry, quarantined or not."""
    blob = store.layout.blob(file.sha256)
    if is_file(blob, size=file.size) and has_hash(blob, file.sha256):
        return blob
    for folder in (*store.usage.quarantined(), *map(store.path, store.keys())):
        path = folder / name
        if not is_real_folder(folder) or not is_file(path, size=file.size):
            continue
        with store.usage.lease(key_of(folder)):
            if has_hash(path, file.sha256):
                in_use.enter_context(store.usage.lease(key_of(folder)))
                # A link, where the file system has them: then the copy takes no room.
                store.blobs.add_file(path, file.sha256)
                return path
    return None
