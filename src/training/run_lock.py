"""One run at a time on an output folder: two would remove each other's checkpoints."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from src.training.errors import RequestError


class RunLock:
    """A lock on an output folder. The system lets go of it however the process ends."""

    def __init__(self, output: Path) -> None:
        """Takes the lock.

        Raises:
            RequestError: another run has it.
        """
        output.parent.mkdir(parents=True, exist_ok=True)
        self._path = output.parent / f".{output.name}.lock"
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
