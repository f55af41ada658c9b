"""The programs of src/remote that the end-to-end checks start and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

# A loaded machine may need this long for what usually takes seconds.
TIMEOUT_SECONDS = 600.0


class Program:
    """A program of src/remote as a process."""

    def __init__(self, root: Path, module: str, *flags: str, environment: Mapping[str, str]) -> None:
        """Starts it; its output goes to a temporary file."""
        self._module = module
        self._folder = tempfile.TemporaryDirectory(prefix="program.")
        self._log = Path(self._folder.name, "log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *flags],
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Waits until it serves.

        Raises:
            RuntimeError: it exits or times out.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._module} did not start: {self.output}")
            time.sleep(0.1)

    def wait(self) -> int:
        """Waits until it exits by itself; returns its exit code."""
        return self._process.wait(TIMEOUT_SECONDS)

    def kill(self) -> None:
        """Kills it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stops it as Ctrl-C does, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


class Executor(Program):
    """//src/remote:executor."""

    def __init__(self, root: Path, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts it and waits until it serves."""
        with tempfile.TemporaryDirectory(prefix="ready.") as folder:
            ready = Path(folder, "ready")
            super().__init__(
                root, "src.remote.executor", f"--ready_file={ready}", *flags, environment=environment or {}
            )
            self.wait_until(ready.exists)
            self.url = ready.read_text(encoding="utf-8")

    def wait_for_an_action(self) -> None:
        """Waits until an action has run for some seconds, so that a test is in progress.

        Raises:
            RuntimeError: none runs within the timeout.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        times_seen = 0
        while time.monotonic() < deadline:
            times_seen = times_seen + 1 if self._runs_training() else 0
            if times_seen >= 4:
                return
            time.sleep(0.5)
        raise RuntimeError("no action ran")

    def _runs_training(self) -> bool:
        lines = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        return any("train_model" in line and "--seed=7" in line for line in lines)


class Relay(Program):
    """//src/remote:relay for the user.bazelrc of a folder."""

    def __init__(self, root: Path, *, configured: Path, port: int) -> None:
        """Starts it and waits until it listens on a port."""
        super().__init__(root, "src.remote.relay", environment={"BUILD_WORKSPACE_DIRECTORY": str(configured)})
        self.wait_until(lambda: _listens(port))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
