"""Imports and exports models as plain folders. Nothing that is imported is executed, and no link is trusted."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from src.cache_manager.store.document import digest_of, import_document
from src.cache_manager.store.manifest import MANIFEST, BadEntryError, Manifest, check_name, is_own_file, read
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import OK, inspect
from src.cli.errors import RequestError
from src.disk.durable import delete, file_sha256, flush
from src.disk.owner import unique_name

# Formats that run code when they are read.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".keras", ".npy", ".npz")


def import_folder(store: Store, folder: Path, *, model_name: str | None = None, allow_pickle: bool = False) -> Path:
    """Copies a model's folder into the cache; returns the entry's folder.

    What `export` wrote keeps its key; of any other folder the content is the key.

    Args:
        store: the cache.
        folder: of the model: config.json and safetensors.
        model_name: what `ls` shows (default: the folder's name, or what it was exported with).
        allow_pickle: also take files that run code when they are loaded.

    Raises:
        RequestError: the folder is not a model, has changed since it was exported, or holds what is not allowed.
        CacheError: the disk is full.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder: name the folder of a model")
    files = model_files(folder, allow_pickle=allow_pickle)
    manifest = exported_manifest(folder)
    if manifest is None:
        hashes = {name: file_sha256(path) for name, path in files.items()}
        name, revision = _origin(folder.resolve())
        document = import_document(hashes)
        return store.commit(files, document=document, model_name=model_name or name, revision=revision, hashes=hashes)
    if files.keys() != manifest.files.keys():
        odd = sorted(files.keys() ^ manifest.files.keys())
        raise RequestError(
            f"{folder} has changed since it was exported ({odd[0]}): export it again, or delete {MANIFEST}"
        )
    return store.commit(
        files,
        document=manifest.document,
        model_name=model_name or manifest.model_name,
        revision=manifest.revision,
        hashes={name: file.sha256 for name, file in manifest.files.items()},
    )


def _origin(folder: Path) -> tuple[str, str | None]:
    """Returns name and commit of a snapshot in the hub's cache; of any other folder its own name."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/"), folder.name
    return folder.name, None


def exported_manifest(folder: Path) -> Manifest | None:
    """Returns the manifest that `export` wrote into a folder; None where it has none.

    Raises:
        RequestError: the manifest is not valid.
    """
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read(folder)
    except BadEntryError as error:
        raise RequestError(f"{folder}: {error}: delete {MANIFEST} to import the files as they are") from error
    if digest_of(manifest.document) != manifest.key:
        raise RequestError(f"{folder}: {MANIFEST} does not hash to its key: delete it to import the files as they are")
    return manifest


def model_files(folder: Path, *, allow_pickle: bool) -> dict[str, Path]:
    """Returns path by name of everything in a model's folder, hidden files aside.

    Raises:
        RequestError: it holds a link that leads elsewhere, a pickle, or no model.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts) or is_own_file(name):
            continue
        target = _followed(path, folder)
        if target is None:
            continue
        try:
            files[check_name(name)] = target
        except ValueError as error:
            raise RequestError(f"{folder}: {error}: rename it") from error
        if path.suffix.lower() in _PICKLES and not allow_pickle:
            raise RequestError(
                f"{path} may run code when it is loaded: delete it, store the weights as safetensors, or give "
                "--allow_pickle if you trust it"
            )
    if "config.json" not in files or not any(name.endswith((".safetensors", *_PICKLES)) for name in files):
        raise RequestError(f"{folder} is not a model: config.json and *.safetensors are missing")
    return files


def _followed(path: Path, folder: Path) -> Path | None:
    """Returns the file behind a name, or None for a folder.

    Of links only those of the hub's cache are followed, from its snapshots to its blobs, and those inside the folder.
    """
    if path.is_symlink():
        target = path.resolve()
        roots = [folder.resolve()]
        if folder.resolve().parent.name == "snapshots":
            roots.append(folder.resolve().parent.parent / "blobs")
        if not any(root in target.parents for root in roots) or not target.is_file():
            raise RequestError(f"{path} is a broken link, or leads out of the folder: put the file itself there")
        return target
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return None
    if not stat.S_ISREG(mode):
        raise RequestError(f"{path} is not a regular file: remove it")
    return path


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
