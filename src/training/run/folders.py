"""Where a run writes: its output folder, its checkpoints, and the lock on both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from src.cli.errors import RequestError
from src.cli.working_folder import working_folder
from src.training.engine.checkpoints import Checkpoints
from src.training.run.artifact import check_output_folder, is_full, refusals_of_the_system
from src.training.run.options import RunOptions
from src.training.run.output_place import Beside, InPlace, OutputPlace


@dataclass(frozen=True, kw_only=True)
class RunFolders:
    """The folders of a run, which are its own until `lock` is released.

    Attributes:
        output: where the artifact goes.
        place: how it gets there.
        resume_from: the checkpoint to resume from.
    """

    output: Path
    place: OutputPlace
    checkpoints: Checkpoints
    resume_from: Path | None
    lock: RunLock


def open_run_folders(options: RunOptions, *, recipe_name: str, fingerprint: str) -> RunFolders:
    """Takes the folders of a run.

    Args:
        options: name the output folder, and whether to resume from a checkpoint.
        recipe_name: names the output folder where the options do not.
        fingerprint: of the recipe.

    Raises:
        RequestError: the output folder is not free, or its checkpoints do not fit.
    """
    output = options.output_dir or _default_output(f"{recipe_name}-{fingerprint[:8]}")
    with refusals_of_the_system(output):
        if output.is_symlink():
            # A folder can be renamed onto a folder, not onto a link to one.
            output = Path(os.path.realpath(output))
    check_output_folder(output, overwrite=options.overwrite_output_dir)
    with refusals_of_the_system(output):
        place, lock = _take_place(output)
    try:
        with refusals_of_the_system(output):
            place.recover()
        check_output_folder(output, overwrite=options.overwrite_output_dir, fingerprint=fingerprint)
        checkpoints = Checkpoints(place.checkpoints, fingerprint=fingerprint, keep=options.save_total_limit)
        resume_from = _checkpoint_to_resume(checkpoints, wanted=options.resume_from_checkpoint)
    except BaseException:
        lock.release()
        raise
    return RunFolders(output=output, place=place, checkpoints=checkpoints, resume_from=resume_from, lock=lock)


def _take_place(output: Path) -> tuple[OutputPlace, RunLock]:
    """Locks an output folder; returns how artifacts get there.

    Raises:
        RequestError: another run has it.
        OSError: it cannot be written to.
    """
    beside = Beside(output)
    try:
        lock, is_possible = RunLock(beside, output=output), False
        try:
            is_possible = beside.is_possible()
        finally:
            if not is_possible:
                lock.release()
        if is_possible:
            return beside, lock
    except OSError as error:
        # A folder that is one's own may stand in one that is not.
        if is_full(error):
            raise
    inside = InPlace(output)
    return inside, RunLock(inside, output=output)


def _default_output(name: str) -> Path:
    if outputs := os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR"):
        return Path(outputs) / "model"
    return working_folder() / "finetuned" / name


def _checkpoint_to_resume(checkpoints: Checkpoints, *, wanted: str) -> Path | None:
    checkpoints.drop_partial()
    if wanted == "false":
        checkpoints.remove()
    found = checkpoints.latest()
    if wanted == "true" and found is None:
        raise RequestError(f"there is no checkpoint in {checkpoints.folder} to resume from")
    return found


class RunLock:
    """A lock on an output folder. The system lets go of it however the process ends."""

    def __init__(self, place: OutputPlace, *, output: Path) -> None:
        """Takes the lock.

        Raises:
            RequestError: another run has it.
        """
        self._place, self._path = place, place.lock
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._path)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise RequestError(
                f"another run is at work on {output}: wait for it to end, or name another --output_dir"
            ) from error

    def release(self) -> None:
        """Lets go of the folder and leaves no file behind. To be called once at the most."""
        # While it is held: whoever opened this file before finds, once it is theirs, that it has no name any more.
        self._path.unlink(missing_ok=True)
        self._lock.release()
        self._place.leave()
