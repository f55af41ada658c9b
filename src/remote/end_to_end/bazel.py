"""Bazel with its own output base, for the end-to-end checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from src.remote.checks.test_strategies import TestRun, read_runs
from src.remote.end_to_end.servers import TIMEOUT_SECONDS

CONFIG = "local-executor"


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of a call of Bazel: exit code, output (with `run` only the program's), results of tests."""

    code: int
    output: str
    runs: list[TestRun]


class Bazel:
    """Bazel with its own output base: nothing that the user has built is used or touched."""

    def __init__(
        self, root: Path, scratch: Path, *, environment: Mapping[str, str], bazelrc: Path | None = None
    ) -> None:
        """`environment` is added to that of Bazel and its programs, `bazelrc` to its bazelrc files."""
        self._root, self._scratch = root, scratch
        self.base = scratch / "output_base"
        self._startup = [f"--output_base={self.base}", *([f"--bazelrc={bazelrc}"] if bazelrc else [])]
        self._environment = {**os.environ, **environment}
        self._links = {path: path.readlink() for path in _convenience_links(root)}

    def arguments(self, command: str, *rest: str) -> list[str]:
        """Returns a command line."""
        return ["bazel", *self._startup, command, *rest]

    def start(self, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
        """Starts a call whose output goes to a file."""
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
        output = done.stdout + (done.stderr if stdout_only and done.returncode not in (0, 1, 3) else "")
        return done.returncode, output

    def test(self, *arguments: str, config: str | None = CONFIG, events: str | None = None) -> Done:
        """Tests targets; `events` names the file of build events in the scratch folder."""
        file = self._scratch / (events or f"{uuid.uuid4()}.json")
        flags = [f"--config={config}"] if config else []
        code, output = self.command("test", *flags, f"--build_event_json_file={file}", *arguments)
        return Done(code=code, output=output, runs=read_runs(file) if file.exists() else [])

    def run(self, target: str, *arguments: str) -> Done:
        """Runs a program; Bazel's exit code is the program's."""
        code, output = self.command("run", target, "--", *arguments, stdout_only=True)
        return Done(code=code, output=output, runs=[])

    def shutdown(self) -> None:
        """Stops the server, removes its files (some are read-only) and restores bazel-bin and the other links."""
        self.command("shutdown")
        for folder, _, _ in os.walk(self.base):
            Path(folder).chmod(0o755)
        shutil.rmtree(self.base, ignore_errors=True)
        for path in _convenience_links(self._root):
            path.unlink()
        for path, target in self._links.items():
            path.symlink_to(target)


def _convenience_links(root: Path) -> list[Path]:
    return [path for path in root.glob("bazel-*") if path.is_symlink()]


class RunningTest:
    """A `bazel test` in the background."""

    def __init__(self, bazel: Bazel, *arguments: str) -> None:
        """Starts it."""
        handle, name = tempfile.mkstemp()
        os.close(handle)
        self._log = Path(name)
        self._process = bazel.start(*bazel.arguments("test", f"--config={CONFIG}", *arguments), output=self._log)

    def wait(self) -> tuple[str, int | None]:
        """Waits for it to end; returns its output and its exit code, None on a timeout."""
        try:
            code = self._process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
        output = self._log.read_text(errors="replace")
        self._log.unlink()
        return output, code
