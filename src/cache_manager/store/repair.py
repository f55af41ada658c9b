"""Repairs entries from other copies of the same bytes, and quarantines the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from src.cache_manager.store.document import digest_of
from src.cache_manager.store.layout import is_key
from src.cache_manager.store.manifest import MANIFEST, MANIFEST_COPY, BadEntryError, File, Manifest, parse
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import CORRUPT, INCOMPLETE, OK, Finding, inspect
from src.disk.durable import discard, file_sha256

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
    bad_blobs = [] if keys else [blob for blob in store.blobs.all() if file_sha256(blob) != blob.name]
    for blob in bad_blobs:
        log.warning("cache: the blob %.12s holds other bytes than its name says: removing it", blob.name)
        discard(blob, trash=store.layout.trash)
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


def _known(manifest: Manifest | None) -> Manifest:
    if manifest is None:
        raise ValueError("an entry that is ok has a manifest")
    return manifest


def _repair_entry(store: Store, finding: Finding) -> Repair:
    """Quarantines a bad entry and restores it from right copies of its files, if all exist."""
    store.quarantine(finding)
    action = "restored" if store.path(finding.key).exists() or _restore(store, finding.key) else "quarantined"
    return Repair(key=finding.key, problems=finding.problems, action=action)


def _restore_quarantined(store: Store, tried: set[str]) -> list[Repair]:
    """Restores entries that were quarantined earlier and have not been replaced."""
    repairs = []
    for key in sorted({path.name.partition("+")[0] for path in _quarantined(store)} - tried):
        if is_key(key) and not store.path(key).exists() and _restore(store, key):
            repairs.append(Repair(key=key, problems=("it was in quarantine",), action="restored"))
    return repairs


def _quarantined(store: Store, key: str = "") -> list[Path]:
    folder = store.layout.quarantine
    return [path for path in folder.iterdir() if path.name.startswith(key)] if folder.is_dir() else []


def _restore(store: Store, key: str) -> bool:
    """Commits an entry again from right copies of its files; returns whether all were found."""
    for folder in _quarantined(store, key):
        manifest = _manifest_of(folder, key)
        if manifest is None:
            continue
        files = {name: _right_copy(store, name, file) for name, file in manifest.files.items()}
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
        for old in _quarantined(store, key):
            discard(old, trash=store.layout.trash)
        return True
    return False


def _manifest_of(folder: Path, key: str) -> Manifest | None:
    """Returns the manifest of a quarantined entry, or its copy."""
    for name in (MANIFEST, MANIFEST_COPY):
        try:
            manifest = parse((folder / name).read_bytes(), what=name)
        except (OSError, BadEntryError) as error:
            log.debug("cache: %s: %s", folder.name, error)
            continue
        if manifest.key == key and digest_of(manifest.document) == key:
            return manifest
    return None


def _right_copy(store: Store, name: str, file: File) -> Path | None:
    """Returns a file with the right bytes: the blob, or that of any entry, quarantined or not."""
    for path in _candidates(store, name, file):
        # A link could lead anywhere.
        if not path.is_symlink() and path.is_file() and file_sha256(path) == file.sha256:
            return path
    return None


def _candidates(store: Store, name: str, file: File) -> Iterator[Path]:
    yield store.layout.blob(file.sha256)
    for folder in (store.layout.quarantine, store.layout.entries):
        if folder.is_dir():
            yield from (
                path
                for entry in folder.iterdir()
                if not entry.is_symlink() and (path := entry / name).is_file() and path.lstat().st_size == file.size
            )
