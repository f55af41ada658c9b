"""A GGUF file as a base model: converted once, and cached by its hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from src.cli.errors import RequestError
from src.disk.durable import file_sha256
from src.training.embedded import locate, pins
from src.training.gguf.convert import convert

SUFFIX = ".gguf"
# Of what `convert` writes: another one makes folders of its own.
_VERSION = 1
_SUMS = "converted.sha256"


def gguf_model_folder(path: Path, *, name: str, weights_sha256: str | None = None) -> tuple[Path, str]:
    """Returns the folder with the model of a GGUF file, as transformers reads it, and the hash of the file.

    Args:
        path: of the file.
        name: what messages call it.
        weights_sha256: what the hash has to be; None: anything.

    Raises:
        RequestError: it does not exist, has another hash, or cannot be converted.
    """
    if not path.is_file():
        raise RequestError(f"the base model {name} does not exist: check the path")
    found = file_sha256(path)
    if weights_sha256 is not None and found != weights_sha256.lower():
        raise RequestError(f"{name} has sha256 {found}, not {weights_sha256} as in the recipe")
    cached = locate.cache_root() / f"gguf-{found[:32]}-{_VERSION}"
    if not _is_whole(cached):
        shutil.rmtree(cached, ignore_errors=True)
        locate.derive_into(cached, {}, lambda folder: _convert(path, folder))
    return cached, found


def _convert(source: Path, folder: Path) -> None:
    convert(source, folder)
    sums = {file.name: file_sha256(file) for file in sorted(folder.iterdir())}
    (folder / _SUMS).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    try:
        pins.check_folder(folder, json.loads((folder / _SUMS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    return True
