"""How an artifact folder gets its final name: whole, by one rename, or, where that cannot be, file by file."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
from pathlib import Path
from typing import Protocol

from src.disk.durable import delete, flush, flush_folder
from src.disk.owner import is_running
from src.training.run.artifact import RECIPE_FILE, WORK_FOLDER, content_of, is_full

# Without the first, transformers loads no model; without the second, none is one of ours.
_LAST = ("config.json", RECIPE_FILE)


class OutputPlace(Protocol):
    """Where a run stages its artifact folder, and how the folder gets its final name.

    Attributes:
        lock: the file that a run locks.
        checkpoints: folder of the run's checkpoints.
    """

    lock: Path
    checkpoints: Path

    def recover(self) -> None:
        """Removes, puts back or completes what a killed run left."""

    def stage(self) -> Path:
        """Makes an empty folder to write the artifact to, after `recover`."""

    def commit(self) -> None:
        """Puts the staged folder under its final name; an older model there is replaced."""

    def clear(self) -> None:
        """Removes what this process staged."""

    def leave(self) -> None:
        """Removes what nothing is in any more, once the lock is released."""


class Beside:
    """Everything stands beside the final folder, on the same file system, so that a rename is enough."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.lock = final.parent / f".{final.name}.lock"
        self.checkpoints = final.parent / f"{final.name}.checkpoint"

    def _hidden(self, what: str) -> Path:
        return self.final.parent / f".{self.final.name}.{what}-{os.getpid()}"

    def is_possible(self) -> bool:
        """Whether folders can be made beside the final one, and it can be renamed: a mount point cannot."""
        # As long as any of the names: which run may do what should not depend on its PID.
        target = self.final.parent / f".{self.final.name}.renamed-{os.getpid():07d}"
        try:
            (target / "full").mkdir(parents=True)
            # Onto a folder that is not empty: whatever else is in the way is reported first. The slash tells this
            # from the rename of a commit, which tests aim at.
            os.rename(f"{self.final}/", target)  # noqa: PTH104 (a Path has no such slash)
        except OSError as error:
            if is_full(error):
                raise
            return error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
        finally:
            shutil.rmtree(target, ignore_errors=True)
        raise AssertionError(f"{target} was not empty")

    def recover(self) -> None:
        """Removes what a killed run left, or puts it back if it was on its way out."""
        final = self.final
        ours = re.compile(rf"\.{re.escape(final.name)}\.(partial|retired|renamed)-(\d+)")
        for old in final.parent.glob(f".{glob.escape(final.name)}.*"):
            name = ours.fullmatch(old.name)
            if name is None or is_running(int(name[2])):
                continue
            if name[1] == "retired" and not final.exists():
                old.rename(final)
            else:
                shutil.rmtree(old, ignore_errors=True)

    def stage(self) -> Path:
        """Makes an empty folder."""
        self.recover()
        self.clear()
        staging = self._hidden("partial")
        staging.mkdir(parents=True)
        return staging

    def commit(self) -> None:
        """Puts the staged folder under its final name; an older model there is replaced."""
        staging, retired = self._hidden("partial"), self._hidden("retired")
        _let_umask_decide(staging)
        flush_folder(staging)
        if self.final.exists() and any(self.final.iterdir()):
            self.final.rename(retired)
        staging.rename(self.final)
        flush(self.final.parent)
        shutil.rmtree(retired, ignore_errors=True)

    def clear(self) -> None:
        """Removes what this process staged."""
        shutil.rmtree(self._hidden("partial"), ignore_errors=True)

    def leave(self) -> None:
        """Nothing is left."""


class InPlace:
    """Everything stands in a hidden folder of the final one, which cannot be renamed itself.

    A commit is one rename of the staged folder, after which any run completes it: the older model goes, its deciding
    files first, and the new files move in, theirs last. At no instant do the files under the final name make a model
    that was not staged.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self._work = final / WORK_FOLDER
        self.lock, self.checkpoints = self._work / "lock", self._work / "checkpoint"
        # The lock keeps other runs away: no name has to say whose it is. In containers all are process 1.
        self._staging, self._committed, self._moving = (
            self._work / name for name in ("partial", "committed", "moving")
        )

    def recover(self) -> None:
        """Completes a commit that a kill cut short."""
        if self._committed.is_dir():
            for old in reversed(_deciding_last(content_of(self.final))):
                delete(old)
                flush(self.final)
            self._committed.rename(self._moving)
            flush(self._work)
        if self._moving.is_dir():
            for new in _deciding_last([*self._moving.iterdir()]):
                new.rename(self.final / new.name)
                flush(self.final)
            self._moving.rmdir()
        self.clear()

    def stage(self) -> Path:
        """Makes an empty folder."""
        self.recover()
        self._staging.mkdir(parents=True)
        return self._staging

    def commit(self) -> None:
        """Puts the staged files into the final folder; an older model there is replaced."""
        _let_umask_decide(self._staging)
        flush_folder(self._staging)
        self._staging.rename(self._committed)
        flush(self._work)
        self.recover()

    def clear(self) -> None:
        """Removes what was staged."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def leave(self) -> None:
        """Removes the hidden folder, unless a checkpoint is in it."""
        with contextlib.suppress(OSError):
            self._work.rmdir()


def _deciding_last(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: _LAST.index(path.name) + 1 if path.name in _LAST else 0)


def _let_umask_decide(folder: Path) -> None:
    """Gives files and folders the modes of new ones: safetensors makes its own readable by the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
