"""Packs a root file system as an OCI image of one layer: the same files give the same bytes."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import IO, Any

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class _HashedFile:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self.size = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        self.size += len(content)
        return self._file.write(content)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def pack(rootfs: Path, layout: Path) -> str:
    """Writes the image as an OCI layout; returns the digest of its manifest.

    The layer is not compressed: it never leaves this machine.

    Args:
        rootfs: the root file system.
        layout: a folder, which is created.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    partial = layout / "layer"
    with partial.open("wb") as file:
        layer = _HashedFile(file)
        with tarfile.open(fileobj=layer, mode="w|", format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
            # tarfile visits folders in the order of names.
            archive.add(rootfs, arcname=".", filter=_plain)
    partial.rename(blobs / layer.sha256)
    descriptor = {"mediaType": _LAYER_TYPE, "digest": f"sha256:{layer.sha256}", "size": layer.size}
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [descriptor["digest"]]}}
    manifest = _write(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _write({**config, "config": {}}, blobs=blobs, media_type=_CONFIG_TYPE),
            "layers": [descriptor],
        },
        blobs=blobs,
        media_type=_MANIFEST_TYPE,
    )
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}), encoding="utf-8")
    return str(manifest["digest"])


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Clears times and user names; skips devices."""
    if member.isdev():
        # Only root could unpack them, and a runner brings its own /dev.
        return None
    member.mtime = 0
    member.uname = member.gname = ""
    return member


def _write(content: dict[str, Any], *, blobs: Path, media_type: str) -> dict[str, Any]:
    blob = json.dumps(content, sort_keys=True).encode()
    digest = hashlib.sha256(blob).hexdigest()
    (blobs / digest).write_bytes(blob)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}
