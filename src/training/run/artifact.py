"""The folder a run leaves behind: assembled out of sight, and under its final name only when whole."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from pathlib import Path

from src.cli.errors import RequestError
from src.disk.durable import flush, flush_folder
from src.disk.owner import is_running

RECIPE_FILE = "recipe.json"
METRICS_FILE = "metrics.json"
EVENTS_FILE = "events.jsonl"
_WEIGHTS = "*.safetensors"


def is_artifact(folder: Path) -> bool:
    """Whether a folder holds a whole model of this project."""
    return all((folder / name).is_file() for name in (RECIPE_FILE, METRICS_FILE)) and any(folder.glob(_WEIGHTS))


def check_output_folder(folder: Path, *, overwrite: bool, fingerprint: str | None = None) -> None:
    """Refuses an output folder that holds anything but a model of the same recipe.

    Args:
        folder: where the model is to go.
        overwrite: whether a model of another recipe may be replaced.
        fingerprint: of the recipe; None where it is not known yet, and only what is no model is refused.

    Raises:
        RequestError: the folder is not free.
    """
    if folder.is_file():
        raise RequestError(f"--output_dir {folder} is a file: name a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not is_artifact(folder):
        raise RequestError(f"--output_dir {folder} already holds something else: name a new or empty folder")
    if overwrite or fingerprint is None:
        return
    if json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8")).get("fingerprint") != fingerprint:
        raise RequestError(
            f"--output_dir {folder} already holds a model of another recipe: name another folder, "
            "or replace it with --overwrite_output_dir"
        )


def staging_folder(final: Path) -> Path:
    """Makes an empty folder beside the final one, on the same file system, so that a rename is enough.

    What a killed run left there is removed, or put back if it was on its way out.
    """
    ours = re.compile(rf"\.{re.escape(final.name)}\.(partial|retired)-(\d+)")
    for old in final.parent.glob(f".{glob.escape(final.name)}.*"):
        name = ours.fullmatch(old.name)
        if name is None or is_running(int(name[2])):
            continue
        if name[1] == "retired" and not final.exists():
            old.rename(final)
        else:
            shutil.rmtree(old, ignore_errors=True)
    staging = final.parent / f".{final.name}.partial-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    return staging


def commit(staging: Path, final: Path) -> None:
    """Puts the staged folder under its final name; an older model there is replaced."""
    _let_umask_decide(staging)
    flush_folder(staging)
    retired = final.parent / f".{final.name}.retired-{os.getpid()}"
    if final.exists() and any(final.iterdir()):
        final.rename(retired)
    staging.rename(final)
    flush(final.parent)
    shutil.rmtree(retired, ignore_errors=True)


def _let_umask_decide(folder: Path) -> None:
    """Gives files the modes of any new file: safetensors makes its own readable by the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)


def remove_staging(final: Path) -> None:
    """Removes what this process staged for a folder."""
    shutil.rmtree(final.parent / f".{final.name}.partial-{os.getpid()}", ignore_errors=True)
