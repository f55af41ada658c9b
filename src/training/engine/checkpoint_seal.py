"""state.json of a checkpoint: the progress of the run, and the size and hash of every file beside it.

A rename is atomic, but a disk may still lose or flip bits, and people copy folders partially. A damaged checkpoint
would lead to other weights under the same fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.disk.durable import canonical_json, file_sha256
from src.disk.json_files import read_json

STATE_FILE = "state.json"
# Incremented when an older trainer could not resume from what this one writes, or the other way round, to
# the same bits.
FORMAT = 6


class DamagedError(Exception):
    """A checkpoint is not as it was written; the message is a clause that says where."""


def write_seal(folder: Path, state: dict[str, Any]) -> None:
    """Writes state.json over the files that are in the folder: the last thing to be written."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in folder.iterdir()}
    document = {**state, "format": FORMAT, "files": files}
    sealed = {**document, "sha256": _sha256(document)}
    (folder / STATE_FILE).write_text(canonical_json(sealed), encoding="utf-8")


def read_seal(folder: Path) -> dict[str, Any]:
    """Returns the content of state.json if the checkpoint is as it was written.

    Raises:
        DamagedError: it is not.
        RequestError: another version of the trainer wrote it.
    """
    state = _read_state(folder)
    recorded = state.pop("sha256", None)
    # The first format had no hash.
    if (recorded is None and "fingerprint" in state and state.get("format") != FORMAT) or recorded == _sha256(state):
        _check_format(folder, state.get("format", 1))
    else:
        raise DamagedError(f"{folder} is damaged: {STATE_FILE} does not hold the bits that were written")
    # Written by this version, and sealed: if anything is missing, not by this program.
    if not isinstance(state.get("files"), dict) or "fingerprint" not in state:
        raise DamagedError(f"{folder} is damaged: {STATE_FILE} names no files")
    for name, expected in state["files"].items():
        if (damage := _damage(folder / name, expected)) is not None:
            raise DamagedError(f"{folder} is damaged: {name} {damage}")
    return state


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state = read_json(folder / STATE_FILE)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{folder} is damaged: {STATE_FILE} cannot be read") from error
    if not isinstance(state, dict):
        raise DamagedError(f"{folder} is damaged: {STATE_FILE} cannot be read")
    return state


def _check_format(folder: Path, version: Any) -> None:
    if version != FORMAT:
        raise RequestError(
            f"{folder} is of another version of the trainer (format {version}, this one reads {FORMAT}): "
            "start over with --resume_from_checkpoint false"
        )


def _damage(path: Path, expected: dict[str, Any]) -> str | None:
    """Returns what is wrong with a file, as a verb with its object."""
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"has {size:,} of {expected['bytes']:,} bytes"
        if file_sha256(path) != expected["sha256"]:
            return "does not hold the bits that were written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _sha256(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
