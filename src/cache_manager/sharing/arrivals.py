"""What may enter the cache from elsewhere: the files of a model, by name, size and form. Nothing of it is executed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from src.cache_manager.store.store import Store
from src.cli.errors import RequestError
from src.cli.formats import show_size
from src.training.model.model_files import PICKLED_INDEX, PICKLED_WEIGHTS, max_bytes, shards
from src.training.model.pretrained import check_config

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = rf"{PICKLED_WEIGHTS}|{PICKLED_INDEX}"
_MAX_NAME = 1000


def is_pickled(name: str) -> bool:
    """Whether a file holds weights in a format that runs code when it is read, or lists such files."""
    return re.fullmatch(_PICKLED, name) is not None


def is_model_file(name: str) -> bool:
    """Whether a model has a file of that name, pickled weights aside."""
    try:
        max_bytes(name)
    except ValueError:
        return False
    return True


def check_model_name(name: str, *, what: str) -> None:
    """Refuses a model name that would steer a terminal or forge lines of `ls`.

    Raises:
        RequestError: it is refused.
    """
    if not name.isprintable() or len(name) > _MAX_NAME:
        raise RequestError(
            f"{what} gives the name {name[:40]!a}: a name is printable text of up to {_MAX_NAME} characters"
        )


def check_files(sizes: Mapping[str, int], store: Store, *, what: str, allow_pickle: bool = False) -> None:
    """Refuses a list of files of which one has no place in a model, or is too large.

    Args:
        sizes: bytes by name.
        store: the cache, whose disk has to hold them.
        what: names them in an error.
        allow_pickle: take pickled weights too.

    Raises:
        RequestError: one is refused.
    """
    for name, size in sizes.items():
        if is_pickled(name):
            if not allow_pickle:
                raise RequestError(
                    f"{what} holds {name}, which may run code when it is loaded: store the weights as safetensors, or "
                    "`import` them with --allow_pickle if you trust them"
                )
            continue
        try:
            limit = max_bytes(name)
        except ValueError as error:
            raise RequestError(f"{what} is refused: {error}") from error
        if limit is not None and size > limit:
            raise RequestError(f"{what} is refused: {name} has {size:,} bytes, a model's has at most {limit:,}")
    root = next(path for path in (store.layout.root, *store.layout.root.absolute().parents) if path.exists())
    if (size := sum(sizes.values())) > (total := shutil.disk_usage(root).total):
        raise RequestError(f"{what} takes {show_size(size)}, and the disk of {root} holds {show_size(total)}")


def check_model(files: Mapping[str, Path], *, what: str) -> None:
    """Refuses files that are no whole model of transformers, or need code of their own.

    Args:
        files: path by name.
        what: names the model in an error.

    Raises:
        RequestError: they are refused.
    """
    if "config.json" not in files or not any(name.endswith(".safetensors") or is_pickled(name) for name in files):
        raise RequestError(f"{what} is not a model: config.json and *.safetensors are missing")
    for name, path in files.items():
        if name.endswith("config.json"):
            check_config(path, name=what)
        elif name.endswith(".safetensors"):
            _check_safetensors(path, what=what)
    if _INDEX in files:
        try:
            missing = shards(files[_INDEX]) - files.keys()
        except ValueError as error:
            raise RequestError(f"{what} is not a whole model: {error}") from error
    else:
        missing = {_WEIGHTS} - files.keys() if any(name.endswith(".safetensors") for name in files) else set()
    if missing:
        raise RequestError(f"{what} is not a whole model: {min(missing)[:80]!a} is missing")


def _check_safetensors(path: Path, *, what: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        # Compares the header with the size of the file.
        with safe_open(path, framework="numpy") as file:
            file.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise RequestError(f"{what} has damaged weights: {path.name} is not safetensors ({error})") from error
