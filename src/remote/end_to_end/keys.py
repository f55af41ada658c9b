"""Remote execution from end to end where the server requires a key and TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.remote.checks.test_strategies import REMOTE
from src.remote.config.bazelrc import read_config
from src.remote.end_to_end.bazel import Bazel
from src.remote.end_to_end.servers import Executor, Relay

_KEY, _WRONG_KEY = "correct-horse-battery-4711", "incorrect-horse-4712"
_TEST = "//src/remote/config:bazelrc_test"
# It has passed before, and would not run again.
_AGAIN = ("--nocache_test_results", "--noremote_accept_cached")


class EndToEndKeys:
    """Needs the executor's default port, which is part of the image's reference: so the image is not pulled again."""

    def __init__(self, root: Path, scratch: Path) -> None:
        """Creates the folder of the configured repository in `scratch`."""
        self._root, self._scratch = root, scratch
        self._configured = scratch / "configured"
        self._configured.mkdir()
        shutil.copy(root / ".bazelrc", self._configured)
        self._state = root / ".executor" / "state"

    def a_wrong_key_is_refused_and_the_right_one_never_leaked(self) -> None:
        """As a user with a key does: .env, configure, relay, and the key in Bazel's environment as well."""
        started = time.time()
        environment = {"NATIVELINK_API_KEY": _KEY}
        executor = Executor(self._root, "--require_key", "--tls", environment=environment)
        # The key is in Bazel's environment too, as it is where CI sets it.
        rc = self._configured / "user.bazelrc"
        bazel = Bazel(self._root, self._scratch, environment=environment, bazelrc=rc)
        try:
            with self._relay(executor, key=_WRONG_KEY):
                wrong = bazel.test(_TEST, *_AGAIN, config="remote")
            assert wrong.code != 0, wrong.output
            assert "UNAUTHENTICATED" in wrong.output, wrong.output
            assert wrong.runs == []
            with self._relay(executor, key=_KEY) as relay:
                right = bazel.test(_TEST, *_AGAIN, config="remote", events="keyed.json")
            assert "was expanded to from both" not in right.output, right.output
            assert (right.code, [run.strategy for run in right.runs]) == (0, [REMOTE]), right.output
        finally:
            executor.stop()
        output = executor.output + relay.output + wrong.output + right.output
        assert _KEY not in output and _WRONG_KEY not in output, output
        events = list(_written_since(started, self._state / "build_events"))
        assert any(_TEST.encode() in path.read_bytes() for path in events), "no build event came through the relay"
        logs = [*bazel.base.glob("*.log*"), bazel.base / "server" / "jvm.out", self._scratch / "keyed.json"]
        for path in [*logs, *_written_since(started, self._state)]:
            content = path.read_bytes()
            assert _KEY.encode() not in content and _WRONG_KEY.encode() not in content, f"{path} holds the key"

    @contextmanager
    def _relay(self, executor: Executor, *, key: str) -> Iterator[Relay]:
        """Sets up a key as a user does: .env, configure, relay."""
        settings = {
            "EXECUTOR": executor.url,
            "BES": executor.url,
            "TLS_CERTIFICATE": str(self._state / "tls" / "certificate.pem"),
            "API_KEY": key,
        }
        env_file = self._configured / ".env"
        env_file.write_text("".join(f"NATIVELINK_{name}={value}\n" for name, value in settings.items()))
        subprocess.run(
            [sys.executable, "-m", "src.remote.configure", "--lane=airgap"],
            cwd=self._root,
            env={**os.environ, "PYTHONPATH": str(self._root), "BUILD_WORKSPACE_DIRECTORY": str(self._configured)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        bes = read_config(self._configured, "remote", overrides=[]).endpoint("bes_backend")
        assert bes is not None
        # The relay listens on this port last.
        relay = Relay(self._root, configured=self._configured, port=int(bes.address.rpartition(":")[2]))
        try:
            yield relay
        finally:
            relay.stop()


def _written_since(moment: float, folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= moment:
            yield path
