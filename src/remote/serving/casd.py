"""buildbox-casd as a child process: the CAS, action cache and execution service behind the executor's gateway."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from src.cli.errors import RequestError
from src.remote.serving.fuse_mounts import has_fuse, unmount_below

_START_SECONDS, _STOP_SECONDS = 30.0, 20.0
_PR_SET_PDEATHSIG = 1
# What actions see with --image host: this machine's programs and libraries.
HOST_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt")
# [file.cpp:428] [INFO] text
_INFORMATIONAL = re.compile(r"\] \[(?:INFO|DEBUG|TRACE)\] ")
_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, kw_only=True)
class CasdSettings:
    """Settings of buildbox-casd.

    Attributes:
        programs: folder with buildbox-casd, buildbox-run and buildbox-fuse.
        state: folder for its files and its socket.
        slots: how many actions run at once; others queue.
        bind_mounts: folders of this machine that actions see.
        cache_bytes: size above which old blobs are evicted.
    """

    programs: Path
    state: Path
    slots: int
    bind_mounts: Sequence[Path]
    cache_bytes: int

    @property
    def socket(self) -> Path:
        """Where it listens; a socket path holds at most 107 characters."""
        return self.state / "casd.sock"

    def command(self) -> list[str]:
        """Returns its command line."""
        mounts = [f"--runner-arg=--bind-mount={path}:{path}" for path in self.bind_mounts]
        return [
            str(self.programs / "buildbox-casd"),
            f"--bind=unix:{self.socket}",
            f"--buildbox-run={self.programs / 'buildbox-run'}",
            f"--jobs={self.slots}",
            f"--quota-high={self.cache_bytes}",
            # A failure may be the machine's fault, so it is not cached.
            "--cache-failures=false",
            f"--shutdown-deadline={int(_STOP_SECONDS / 2)}",
            *mounts,
            str(self.state / "cache"),
        ]

    def environment(self) -> dict[str, str]:
        """Returns its environment, which actions can read: process 1 of their sandbox inherits it.

        Of the environment of whoever starts the executor it holds only the folders of two programs.
        """
        # casd mounts the inputs of actions if buildbox-fuse is on PATH, without testing that FUSE works.
        folders = [str(self.programs)] if has_fuse() else []
        folders += [str(Path(path).parent) for name in ("bwrap", "fusermount3") if (path := shutil.which(name))]
        return {"PATH": ":".join(dict.fromkeys([*folders, *_PATH])), "HOME": str(self.state), "LANG": "C.UTF-8"}


class Casd:
    """The running process. It ends with this program, however that ends."""

    def __init__(self, settings: CasdSettings) -> None:
        """Starts the process and waits until it listens.

        Raises:
            RequestError: it does not start, or bubblewrap is missing.
        """
        if shutil.which("bwrap") is None:
            raise RequestError("bwrap (Debian package bubblewrap) is not installed: run ./setup.sh --executor")
        if len(str(settings.socket)) > 107:
            raise RequestError(f"{settings.state} is too long for a socket path: choose a shorter --state_dir")
        # Its files are the inputs and outputs of actions.
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(settings.state / "lock")
        settings.socket.unlink(missing_ok=True)
        self._state = settings.state
        # A killed executor leaves its mounts behind.
        unmount_below(self._state)
        self.log = settings.state / "casd.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                settings.command(),
                env=settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches this program alone, which then stops the child.
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
                # If this program is killed, the child keeps the lock until it ends too.
                pass_fds=(self._lock.fileno(),),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not settings.socket.exists():
            if not self.is_running() or time.monotonic() > deadline:
                reason = self.failure()
                self.stop()
                raise RequestError(f"buildbox-casd did not start: {reason}")
            time.sleep(0.05)
        # It asks nobody who they are; that the gateway does.
        settings.socket.chmod(0o600)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def failure(self) -> str:
        """Returns how the process ended, the last lines of its log that are no mere information, and the log's path."""
        lines = self.log.read_text(errors="replace").splitlines()
        complaints = [line for line in lines if not _INFORMATIONAL.search(line)]
        return " / ".join([_ending(self._process.poll()), *complaints[-3:], f"its log is {self.log}"])

    def stop(self) -> None:
        """Stops the process and the actions that it runs."""
        if self.is_running():
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        unmount_below(self._state)
        self._lock.close()


def _ending(status: int | None) -> str:
    if status is None:
        return f"it does not listen after {_START_SECONDS:g} seconds"
    if status >= 0:
        return f"exit code {status}"
    name = signal.Signals(-status).name
    return f"ended by {name}" + (", which Linux sends when memory runs out" if name == "SIGKILL" else "")


def _locked(path: Path) -> IO[bytes]:
    """Takes a lock for the life of the server; two servers would corrupt one cache.

    The server of a killed executor takes some seconds to end, so this waits that long.
    """
    file = path.open("wb")
    deadline = time.monotonic() + _STOP_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise RequestError(
                    f"another executor uses {path.parent}: stop it, or choose another --state_dir"
                ) from None
            time.sleep(0.2)


def _die_with_parent(parent: int) -> Callable[[], None]:
    """Returns a preexec_fn that asks the kernel to end the child when this program is killed.

    Linux sends the signal when the thread that created the child ends, so that has to be the main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal
