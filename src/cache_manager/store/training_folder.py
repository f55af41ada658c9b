"""Where a model is trained before it is committed: one folder for each key, so that a stopped training resumes.

Two trainings of one key never write to one folder, even where locks do not work (some network file systems).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cache_manager.store.layout import Layout
from src.disk.durable import delete, read_regular
from src.disk.owner import is_abandoned, unique_name

_MAX_CLAIM_BYTES = 4096

log = logging.getLogger("finetune.cache")


@contextmanager
def claimed_training_folder(layout: Layout, key: str) -> Iterator[Path]:
    """Gives the folder that the training of a key writes to; it stays after the block, to be resumed.

    If another live process has claimed it, a private folder is given instead, which is deleted after the block.
    """
    layout.training.mkdir(parents=True, exist_ok=True)
    owner = unique_name()
    claim = layout.training / f"{key}.claim"
    if _claim(claim, owner):
        try:
            yield layout.training / key
        finally:
            claim.unlink(missing_ok=True)
        return
    log.warning("cache: another process trains %.12s too: this one uses a private folder", key)
    private = layout.training / f"{key}+{owner}"
    try:
        yield private
    finally:
        remove_training_folder(private)


def remove_training_folder(folder: Path) -> None:
    """Deletes a training folder with its checkpoints."""
    delete(folder)
    delete(folder.with_name(f"{folder.name}.checkpoint"))


def live_claims(layout: Layout) -> set[str]:
    """Returns the keys that a live process trains; claims of dead processes are removed."""
    keys = set()
    for claim in layout.training.glob("*.claim"):
        if not _removed_if_dead(claim):
            keys.add(claim.stem)
    return keys


def _claim(claim: Path, owner: str) -> bool:
    """Creates the claim with the owner's name; returns False if another live process holds it."""
    while True:
        try:
            with claim.open("x", encoding="ascii") as file:
                file.write(owner)
            return True
        except FileExistsError:
            if not _removed_if_dead(claim):
                return False


def _removed_if_dead(claim: Path) -> bool:
    """Removes the claim of a process that has ended; returns whether the claim is free."""
    aside = claim.with_name(f"{claim.name}+{unique_name()}")
    try:
        if not is_abandoned(_owner(claim), claim):
            return False
        claim.rename(aside)
        # Another process may have replaced the claim since it was read: put its claim back.
        if is_abandoned(_owner(aside), aside):
            return True
        with contextlib.suppress(FileExistsError):
            os.link(aside, claim)
        return False
    except FileNotFoundError:
        return True
    finally:
        delete(aside)


def _owner(claim: Path) -> str:
    """Returns what a claim holds; of what is not a file, nothing."""
    try:
        return read_regular(claim, max_bytes=_MAX_CLAIM_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        raise
    except OSError as error:
        log.warning("cache: the claim %s cannot be read (%s)", claim, error.strerror)
        return ""
