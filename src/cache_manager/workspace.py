"""Where a model is trained before it is committed: one folder for each key, so that a stopped training goes on.

Two trainings of one key never write to one folder, even where locks are kept by nobody (some network file systems).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cache_manager.durable import delete
from src.cache_manager.layout import Layout
from src.cache_manager.owner import is_abandoned, unique_name

log = logging.getLogger("finetune.cache")


@contextmanager
def claimed_workspace(layout: Layout, key: str) -> Iterator[Path]:
    """Gives the folder that the training of a key writes to; it stays, for whoever goes on.

    Where another living process has it, a folder of one's own is given instead, and is gone when the block ends.
    """
    layout.training.mkdir(parents=True, exist_ok=True)
    owner = unique_name()
    claim = layout.training / f"{key}.claim"
    if _claimed(claim, owner):
        try:
            yield layout.training / key
        finally:
            claim.unlink(missing_ok=True)
        return
    log.warning("cache: another process trains %.12s as well: this one trains in a folder of its own", key)
    private = layout.training / f"{key}+{owner}"
    try:
        yield private
    finally:
        remove_workspace(private)


def remove_workspace(folder: Path) -> None:
    """Deletes a training folder with its checkpoints."""
    delete(folder)
    delete(folder.with_name(f"{folder.name}.checkpoint"))


def _claimed(claim: Path, owner: str) -> bool:
    """Writes the owner's name into a file that only one process can make; what a dead one left is replaced."""
    while True:
        try:
            with claim.open("x", encoding="ascii") as file:
                file.write(owner)
            return True
        except FileExistsError:
            pass
        try:
            if not is_abandoned(claim.read_text(encoding="ascii").strip(), claim):
                return False
            # Of several that find a dead process's claim, one can rename it.
            aside = claim.with_name(f"{claim.name}+{owner}")
            claim.rename(aside)
            aside.unlink()
        except FileNotFoundError:
            continue
