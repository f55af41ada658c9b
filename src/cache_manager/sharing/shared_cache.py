"""A cache that a team shares: entries pushed to and pulled from any URL that fsspec supports, verified on arrival.

URL/v2/KEY/manifest.json        written last, after every file it names
URL/v2/blobs/ab/ab12...         files by sha256, so that no content is uploaded twice
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cache_manager.sharing.arrivals import check_files, check_model, check_model_name
from src.cache_manager.store.assemble import manifest_room
from src.cache_manager.store.document import IMPORT
from src.cache_manager.store.layout import is_key
from src.cache_manager.store.manifest import MANIFEST, MAX_MANIFEST_BYTES, BadEntryError, File, Manifest, parse
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import OK, inspect
from src.cli.errors import RequestError
from src.disk.durable import copy_hashed
from src.disk.owner import unique_name

_FOLDER = "v2"
# Where a file is visible while it is written. Object stores show a file when it is whole.
_NON_ATOMIC_PROTOCOLS = ("file", "local", "sftp", "ssh", "smb", "ftp")
# What fsspec needs beside itself, for the error that names it.
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}

log = logging.getLogger("finetune.cache")


@dataclass(frozen=True)
class Transferred:
    """What a push or a pull moved: how many files, and their bytes; files that were already present do not count."""

    key: str
    files: int
    bytes: int


class SharedCache:
    """A shared cache behind a URL."""

    def __init__(self, url: str) -> None:
        """Opens the URL.

        Raises:
            RequestError: fsspec does not support the URL, or lacks the package for it.
        """
        import fsspec

        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = _PACKAGES.get(protocol, "the package it names")
            raise RequestError(
                f"{protocol}:// needs the package {package}, which is not installed ({error}): add it to "
                "requirements.in, or push to a folder with file://"
            ) from error
        except (ValueError, OSError) as error:
            raise RequestError(f"{url} is not a URL of fsspec ({error}): use file://, s3:// or gs://") from error
        self.url, self._root = url, f"{root.rstrip('/')}/{_FOLDER}"
        self._protocol = protocol

    def resolve(self, prefix: str) -> str:
        """Returns the key of the shared cache that begins with a prefix.

        Raises:
            RequestError: no key does, or several do.
        """
        keys = [key for key in self.keys() if prefix and key.startswith(prefix.lower())]
        if len(keys) != 1:
            raise RequestError(f"{len(keys)} keys at {self.url} begin with {prefix!r}: give the digits of one")
        return keys[0]

    def keys(self) -> list[str]:
        """Returns the keys of the shared cache."""
        try:
            paths = self._files.ls(self._root, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in paths)
        return sorted(name for name in names if is_key(name))

    def push(self, store: Store, key: str, *, force: bool = False) -> Transferred:
        """Uploads an entry: the files that the shared cache lacks, then the manifest.

        Args:
            store: the cache.
            key: the entry.
            force: upload also files that are present with the right name and size.

        Raises:
            RequestError: the entry is not whole.
        """
        with store.usage.lease(key):
            finding = inspect(store.layout, key, every_byte=True)
            if finding.state != OK or finding.manifest is None:
                raise RequestError(f"the entry {key[:16]} is {finding.state}: `repair` it before pushing it")
            # What no `pull` takes is not uploaded.
            _check_listed(finding.manifest, store, what=f"the entry {key[:16]}")
            uploaded_sizes = [
                file.size
                for name, file in finding.manifest.files.items()
                if self._upload(str(store.path(key) / name), self._blob(file.sha256), size=None if force else file.size)
            ]
            self._write(self._manifest(key), finding.manifest.to_json())
        return Transferred(key, len(uploaded_sizes), sum(uploaded_sizes))

    def pull(self, store: Store, key: str) -> Transferred:
        """Downloads an entry; every file is hashed on arrival, and nothing is kept if one is wrong.

        Raises:
            RequestError: it is missing, or not what its manifest says, or there is no room for it.
            CacheError: the disk is full.
        """
        if store.lookup(key) is not None:
            return Transferred(key, 0, 0)
        manifest = self._read_manifest(key)
        what = f"the model {key[:16]} at {self.url}"
        _check_listed(manifest, store, what=what)
        with store.staging() as staging:
            missing = {
                name: file
                for name, file in manifest.files.items()
                if not store.blobs.link(file.sha256, staging.path(name), size=file.size)
            }
            size = sum(file.size for file in missing.values())
            store.reserve(staging, size + manifest_room(manifest, manifest.files))
            for name, file in missing.items():
                self._download(name, file, staging.path(name))
            check_model({name: staging.path(name) for name in manifest.files}, what=what)
            store.finish(staging, manifest, {name: file.sha256 for name, file in manifest.files.items()})
        return Transferred(key, len(missing), sum(file.size for file in missing.values()))

    def _download(self, name: str, file: File, target: Path) -> None:
        try:
            with self._open(self._blob(file.sha256)) as reader:
                # No more than was reserved, however much arrives.
                arrived = copy_hashed(reader, target, size=file.size)
        except FileNotFoundError:
            arrived = ""
        if arrived != file.sha256:
            raise RequestError(
                f"{name} at {self.url} is missing or has other bytes than its manifest says: nothing was kept; push it "
                "again with --force"
            )

    def _read_manifest(self, key: str) -> Manifest:
        try:
            with self._open(self._manifest(key)) as file:
                data = file.read(MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise RequestError(f"{key[:16]} is not at {self.url}: push it first") from None
        try:
            manifest = parse(data, what=f"the manifest of {key[:16]} at {self.url}")
        except BadEntryError as error:
            raise RequestError(f"{error}: nothing was kept; push it again") from error
        if manifest.key != key or not manifest.has_its_key():
            raise RequestError(f"the manifest of {key[:16]} at {self.url} does not hash to its key: nothing was kept")
        return manifest

    def _open(self, path: str) -> Any:
        # In a shared folder a pipe would block for ever, and a device never end.
        if self._protocol in _NON_ATOMIC_PROTOCOLS and not self._files.isfile(path):
            raise FileNotFoundError(path)
        return self._files.open(path, "rb")

    def _upload(self, source: str, target: str, *, size: int | None) -> bool:
        """Uploads a file unless one of that name and size is present; returns whether it had to."""
        try:
            if self._files.size(target) == size:
                return False
        except FileNotFoundError:
            log.debug("cache: %s is new at %s", target, self.url)
        self._atomically(target, lambda path: self._files.put_file(source, path))
        return True

    def _write(self, target: str, data: bytes) -> None:
        self._atomically(target, lambda path: self._files.pipe_file(path, data))

    def _atomically(self, target: str, write: Any) -> None:
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        if self._protocol not in _NON_ATOMIC_PROTOCOLS:
            write(target)
            return
        temporary = f"{target}.{unique_name()}"
        try:
            write(temporary)
            self._files.mv(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.rm_file(temporary)
            raise

    def _blob(self, sha256: str) -> str:
        return f"{self._root}/blobs/{sha256[:2]}/{sha256}"

    def _manifest(self, key: str) -> str:
        return f"{self._root}/{key}/{MANIFEST}"


def _check_listed(manifest: Manifest, store: Store, *, what: str) -> None:
    check_files({name: file.size for name, file in manifest.files.items()}, store, what=what)
    check_model_name(manifest.model_name, what=what)
    check_model_name(manifest.revision or "", what=what)
    hashes = {name: file.sha256 for name, file in manifest.files.items()}
    if manifest.document.get("kind") == IMPORT and manifest.document.get("files") != hashes:
        raise RequestError(f"{what} has other files than its key says: nothing was kept")
