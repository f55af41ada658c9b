"""The folder a run leaves behind: what it is known by, and whether it may be written to."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from src.cli.errors import RequestError
from src.disk.json_files import read_json

RECIPE_FILE = "recipe.json"
METRICS_FILE = "metrics.json"
EVENTS_FILE = "events.jsonl"
# In an output folder that cannot be renamed: the run's lock, checkpoints and staged files.
WORK_FOLDER = ".training"
# In it, only while a commit goes on: the staged files before and after the older model is gone.
IN_COMMIT = ("committed", "moving")
# The second is an adapter's, whose merged weights are not kept.
_WEIGHTS = ("*.safetensors", "adapter/*.safetensors")
# In the root of a new ext4 file system.
_NOBODYS = "lost+found"


def is_artifact(folder: Path) -> bool:
    """Whether a folder holds a whole model of this project."""
    return all((folder / name).is_file() for name in (RECIPE_FILE, METRICS_FILE)) and any(
        weights for pattern in _WEIGHTS for weights in folder.glob(pattern)
    )


def check_output_folder(folder: Path, *, overwrite: bool, fingerprint: str | None = None) -> None:
    """Refuses an output folder that holds anything but a model of the same recipe.

    Args:
        folder: where the model is to go.
        overwrite: whether a model of another recipe may be replaced.
        fingerprint: of the recipe; None where it is not known yet, and only what is no model is refused.

    Raises:
        RequestError: the folder is not free.
    """
    with refusals_of_the_system(folder):
        if not folder.exists():
            return
        if not folder.is_dir():
            raise RequestError(f"--output_dir {folder} is not a folder: name a new or empty folder")
        if not content_of(folder) or any((folder / WORK_FOLDER / name).exists() for name in IN_COMMIT):
            return
    if not is_artifact(folder):
        raise RequestError(f"--output_dir {folder} already holds something else: name a new or empty folder")
    if overwrite or fingerprint is None:
        return
    if _fingerprint(folder) != fingerprint:
        raise RequestError(
            f"--output_dir {folder} already holds a model of another recipe: name another folder, "
            "or replace it with --overwrite_output_dir"
        )


def content_of(folder: Path) -> list[Path]:
    """Returns what is in an output folder, but for what is not an artifact's."""
    return [path for path in folder.iterdir() if path.name not in (WORK_FOLDER, _NOBODYS)]


def _fingerprint(folder: Path) -> str | None:
    try:
        recipe = read_json(folder / RECIPE_FILE)
    except ValueError:
        return None
    return recipe.get("fingerprint") if isinstance(recipe, dict) else None


def is_full(error: OSError) -> bool:
    """Whether a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def refusals_of_the_system(folder: Path) -> Iterator[None]:
    """Raises RequestError where an output folder cannot be written to, for another reason than a full disk."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise
        raise RequestError(
            f"--output_dir {folder} cannot be written to ({error.strerror or error}): name another folder"
        ) from error
