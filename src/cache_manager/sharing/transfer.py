"""Imports and exports models as plain folders. Nothing that is imported is executed, and no link is trusted."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from src.cache_manager.sharing.arrivals import check_files, check_model, check_model_name, is_model_file, is_pickled
from src.cache_manager.store.document import import_document
from src.cache_manager.store.layout import is_real_folder
from src.cache_manager.store.manifest import MANIFEST, BadEntryError, Manifest, is_own_file, read
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import OK, inspect
from src.cli.errors import RequestError
from src.disk.durable import delete, file_sha256, flush
from src.disk.owner import unique_name


@dataclass(frozen=True)
class Imported:
    """An imported model: the folder of its entry, and what of the imported folder is no part of a model."""

    entry: Path
    left_out: tuple[str, ...]


def import_folder(store: Store, folder: Path, *, model_name: str | None = None, allow_pickle: bool = False) -> Imported:
    """Copies the files of a model out of a folder into the cache. Whatever else is there is left out.

    What `export` wrote keeps its key; of any other folder the content is the key.

    Args:
        store: the cache.
        folder: of the model: config.json and safetensors.
        model_name: what `ls` shows (default: the folder's name, or what it was exported with).
        allow_pickle: also take weights that run code when they are loaded.

    Raises:
        RequestError: the folder is not a model, has changed since it was exported, or holds what is not allowed.
        CacheError: the disk is full.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder: name the folder of a model")
    if model_name is not None:
        check_model_name(model_name, what="--name")
    files, left_out = model_files(folder, allow_pickle=allow_pickle)
    manifest = exported_manifest(folder, store=store, allow_pickle=allow_pickle)
    if manifest is not None and files.keys() != manifest.files.keys():
        odd = sorted(files.keys() ^ manifest.files.keys())
        raise RequestError(
            f"{folder} has changed since it was exported ({odd[0]}): export it again, or delete {MANIFEST}"
        )
    sizes = {name: path.stat().st_size for name, path in files.items()}
    check_files(sizes, store, what=str(folder), allow_pickle=allow_pickle)
    check_model(files, what=str(folder))
    if manifest is None:
        hashes = {name: file_sha256(path) for name, path in files.items()}
        name, revision = _origin(folder.resolve())
        document = import_document(hashes)
    else:
        hashes = {name: file.sha256 for name, file in manifest.files.items()}
        name, revision, document = manifest.model_name, manifest.revision, manifest.document
    entry = store.commit(files, document=document, model_name=model_name or name, revision=revision, hashes=hashes)
    return Imported(entry, left_out)


def _origin(folder: Path) -> tuple[str, str | None]:
    """Returns name and commit of a snapshot in the hub's cache; of any other folder its own name."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/"), folder.name
    return folder.name, None


def exported_manifest(folder: Path, *, store: Store, allow_pickle: bool) -> Manifest | None:
    """Returns the manifest that `export` wrote into a folder; None where it has none.

    Raises:
        RequestError: the manifest is not valid, or lists what is no file of a model.
    """
    if not os.path.lexists(folder / MANIFEST):
        return None
    as_they_are = f"delete {MANIFEST} to import the files as they are"
    try:
        manifest = read(folder)
    except BadEntryError as error:
        raise RequestError(f"{folder}: {error}: {as_they_are}") from error
    if not manifest.has_its_key():
        raise RequestError(f"{folder}: {MANIFEST} does not hash to its key: {as_they_are}")
    sizes = {name: file.size for name, file in manifest.files.items()}
    check_files(sizes, store, what=f"{folder / MANIFEST}", allow_pickle=allow_pickle)
    check_model_name(manifest.model_name, what=f"{folder / MANIFEST}")
    return manifest


def model_files(folder: Path, *, allow_pickle: bool) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Returns path by name of a model's files in a folder, and the names of what else is there.

    Pickled weights beside safetensors are left out; alone they are among the files, to be refused.

    Raises:
        RequestError: a file of the model is a link that leads elsewhere, or not a regular file.
    """
    files: dict[str, Path] = {}
    pickled: dict[str, Path] = {}
    left_out: list[str] = []
    for path in sorted(folder.iterdir()):
        if is_own_file(path.name):
            continue
        inner = sorted(path.iterdir()) if is_real_folder(path) else [path]
        names = {each.relative_to(folder).as_posix(): each for each in inner}
        known = {name: each for name, each in names.items() if is_model_file(name)}
        weights = {name: each for name, each in names.items() if is_pickled(name)}
        files |= {name: _followed(each, folder) for name, each in known.items()}
        pickled |= weights
        if not known and not weights:
            left_out.append(path.name + "/" * is_real_folder(path))
        else:
            left_out += names.keys() - known.keys() - weights.keys()
    if not allow_pickle and any(name.endswith(".safetensors") for name in files):
        left_out += pickled.keys()
    else:
        files |= {name: _followed(path, folder) for name, path in pickled.items()}
    return files, tuple(left_out)


def _followed(path: Path, folder: Path) -> Path:
    """Returns the file behind a name.

    Of links only those of the hub's cache are followed, from its snapshots to its blobs, and those inside the folder.
    """
    target = path
    if path.is_symlink():
        try:
            target = path.resolve()
        except (OSError, RuntimeError):
            # A circle, which the check below refuses.
            target = path
        roots = [folder.resolve()]
        if folder.resolve().parent.name == "snapshots":
            roots.append(folder.resolve().parent.parent / "blobs")
        if not any(root in target.parents for root in roots) or not target.is_file():
            raise RequestError(f"{path} is a broken link, or leads out of the folder: put the file itself there")
    if not target.is_file():
        raise RequestError(f"{path} is not a regular file: remove it")
    return target


def export_entry(store: Store, key: str, folder: Path) -> Path:
    """Copies an entry into a new folder, which appears once it is whole; returns the folder.

    Raises:
        RequestError: the folder is not empty, or the entry is not whole.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} already exists: name a new or empty folder")
    with store.usage.lease(key):
        finding = inspect(store.layout, key, every_byte=True)
        if finding.state != OK or finding.manifest is None:
            raise RequestError(f"the entry {key[:16]} is {finding.state} ({'; '.join(finding.problems)}): `repair` it")
        staging = folder.parent / f".{folder.name}.{unique_name()}"
        try:
            for name in (*finding.manifest.files, MANIFEST):
                target = staging / name
                target.parent.mkdir(parents=True, exist_ok=True)
                # Not a link, and writable: changes to it do not reach the cache.
                shutil.copyfile(store.path(key) / name, target)
                flush(target)
            flush(staging)
            staging.replace(folder)
            flush(folder.parent)
        finally:
            delete(staging)
    return folder
