"""buildbox-casd as a child process: the CAS, the action cache and the execution behind the executor's gateway."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from src.cli.errors import RequestError
from src.remote.config.api_key import KEY_VARIABLE
from src.remote.serving.fuse_mounts import has_fuse, unmount_below

_START_SECONDS, _STOP_SECONDS = 30.0, 20.0
_PR_SET_PDEATHSIG = 1
# What actions see where no image is asked for: this machine's programs and libraries.
HOST_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt")


@dataclass(frozen=True, kw_only=True)
class CasdSettings:
    """How buildbox-casd is run.

    Attributes:
        programs: folder with buildbox-casd, buildbox-run and buildbox-fuse.
        state: folder for its files and its socket.
        slots: how many actions run at once; others wait.
        bind_mounts: folders of this machine that actions see.
        cache_bytes: from which size on old blobs are dropped.
    """

    programs: Path
    state: Path
    slots: int
    bind_mounts: Sequence[Path]
    cache_bytes: int

    @property
    def socket(self) -> Path:
        """Where it listens; a socket's path may have 107 characters at the most."""
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
            # A failure may be the machine's: it is not handed out again.
            "--cache-failures=false",
            f"--shutdown-deadline={int(_STOP_SECONDS / 2)}",
            *mounts,
            str(self.state / "cache"),
        ]


class Casd:
    """The running process. It ends when this program does, however that ends."""

    def __init__(self, settings: CasdSettings) -> None:
        """Starts it and waits until it listens.

        Raises:
            RequestError: it does not start, or bubblewrap is missing.
        """
        if shutil.which("bwrap") is None:
            raise RequestError("there is no bwrap (Debian: bubblewrap) here: run ./setup.sh --executor")
        if len(str(settings.socket)) > 107:
            raise RequestError(f"{settings.state} is too long a path for a socket: name another with --state_dir")
        settings.state.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(settings.state / "lock")
        settings.socket.unlink(missing_ok=True)
        self._state = settings.state
        # Of one that was killed.
        unmount_below(self._state)
        self.log = settings.state / "casd.log"
        environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        if has_fuse():
            # It mounts the inputs of actions where buildbox-fuse is on PATH, and does not try whether that works.
            environment["PATH"] = f"{settings.programs}:{environment.get('PATH', '/usr/bin:/bin')}"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                settings.command(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for this program, which then stops it.
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
                # It keeps the lock where this program is killed, until it has ended as well.
                pass_fds=(self._lock.fileno(),),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not settings.socket.exists():
            if not self.is_running() or time.monotonic() > deadline:
                self.stop()
                raise RequestError(f"buildbox-casd did not start: {self.last_words()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """Returns the last lines of its log."""
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-3:]) or "it said nothing"

    def stop(self) -> None:
        """Ends it and the actions that it runs."""
        if self.is_running():
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        unmount_below(self._state)
        self._lock.close()


def _locked(path: Path) -> IO[bytes]:
    """Takes a lock that lasts as long as the server does; two servers would spoil one cache.

    The server of an executor that was killed takes some seconds to end: that long it is waited for.
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
                    f"another executor is at work in {path.parent}: end it, or name another --state_dir"
                ) from None
            time.sleep(0.2)


def _die_with_parent(parent: int) -> Callable[[], None]:
    """Returns what makes the kernel end a child when this program is killed: nobody else could.

    Linux sends the signal when the thread ends that made the child, so that has to be the main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask
