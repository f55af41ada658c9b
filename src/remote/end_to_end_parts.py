"""What the end-to-end checks are made with: Bazel in a world of its own, and executors that they start and end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from src.remote.remote_proof import TestRun, read_runs

CONFIG = "local-executor"
# A machine with other work may need this long for what takes seconds.
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a call of Bazel ended: exit code, words (of `run` those of the program alone), results of tests."""

    code: int
    output: str
    runs: list[TestRun]


class Bazel:
    """Bazel with an output base of its own: nothing that a user has built is used or touched."""

    def __init__(self, root: Path, scratch: Path, *, environment: Mapping[str, str]) -> None:
        """Takes the repository, a folder, and environment variables for Bazel and what it runs."""
        self._root, self._scratch = root, scratch
        self._base = scratch / "output_base"
        self._environment = {**os.environ, **environment}

    def arguments(self, command: str, *rest: str) -> list[str]:
        """Returns a command line."""
        return ["bazel", f"--output_base={self._base}", command, *rest]

    def start(self, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
        """Starts a call whose words go into a file."""
        with output.open("wb") as file:
            return subprocess.Popen(
                list(arguments),
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def command(self, command: str, *rest: str, stdout_only: bool = False) -> tuple[int, str]:
        """Calls Bazel; returns exit code and output."""
        done = subprocess.run(
            self.arguments(command, *rest),
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stdout_only else subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = done.stdout + (done.stderr if stdout_only and done.returncode not in (0, 1, 3) else "")
        return done.returncode, said

    def test(self, *arguments: str, config: str | None = CONFIG, events: str | None = None) -> Done:
        """Tests targets; `events` names the file of build events in the scratch folder."""
        file = self._scratch / (events or f"{uuid.uuid4()}.json")
        flags = [f"--config={config}"] if config else []
        code, output = self.command("test", *flags, f"--build_event_json_file={file}", *arguments)
        return Done(code=code, output=output, runs=read_runs(file) if file.exists() else [])

    def run(self, target: str, *arguments: str) -> Done:
        """Runs a program; its exit code is that of Bazel."""
        code, output = self.command("run", target, "--", *arguments, stdout_only=True)
        return Done(code=code, output=output, runs=[])

    def shutdown(self) -> None:
        """Ends the server and removes its files, some of which it has made read-only."""
        self.command("shutdown")
        for folder, _, _ in os.walk(self._base):
            Path(folder).chmod(0o755)
        shutil.rmtree(self._base, ignore_errors=True)


class RunningTest:
    """A `bazel test` in the background."""

    def __init__(self, bazel: Bazel, *arguments: str) -> None:
        """Starts it."""
        handle, name = tempfile.mkstemp()
        os.close(handle)
        self._log = Path(name)
        self._process = bazel.start(*bazel.arguments("test", f"--config={CONFIG}", *arguments), output=self._log)

    def wait(self) -> tuple[str, int | None]:
        """Waits for its end; returns what it printed and its exit code, None where it does not end."""
        try:
            code = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
        output = self._log.read_text(errors="replace")
        self._log.unlink()
        return output, code


class Executor:
    """//src/remote:executor as a process."""

    def __init__(self, root: Path, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts it and waits until it serves.

        Raises:
            RuntimeError: it does not.
        """
        # Gone when this object is.
        self._folder = tempfile.TemporaryDirectory(prefix="executor.")
        ready, self._log = Path(self._folder.name, "ready"), Path(self._folder.name, "log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "src.remote.executor", f"--ready_file={ready}", *flags],
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the executor does not start: {self.output}")
            time.sleep(0.1)
        self.url = ready.read_text(encoding="utf-8")

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for_an_action(self) -> None:
        """Waits until it runs an action for some seconds: then a test is in its middle.

        Raises:
            RuntimeError: it does not.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        seen = 0
        while time.monotonic() < deadline:
            seen = seen + 1 if self._runs_training() else 0
            if seen >= 4:
                return
            time.sleep(0.5)
        raise RuntimeError("no action has run")

    def _runs_training(self) -> bool:
        lines = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        return any("train_model" in line and "--seed=7" in line for line in lines)

    def wait(self) -> int:
        """Waits until it ends by itself; returns its exit code."""
        return self._process.wait(_PATIENCE_SECONDS)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ends it as Ctrl-C does; it may have ended already."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
