"""The executor refuses a wrong request in one sentence, before anything is started."""

from __future__ import annotations

import os
import platform
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.remote import executor
from src.remote.image.inputs import STAMP
from src.remote.serving import fuse_mounts
from src.remote.serving.casd import Casd, CasdSettings
from src.remote.serving.settings import parse


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that looks as if ./setup.sh --executor had been run."""
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("NATIVELINK_API_KEY", raising=False)
    program = tmp_path / ".executor" / "buildbox" / "buildbox-casd"
    program.parent.mkdir(parents=True)
    program.write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slots=0"], "--slots must be at least 1"),
        (["--require_key"], "set NATIVELINK_API_KEY"),
        (["--nonsense"], "unrecognized arguments: --nonsense: see --help"),
        (["--port=0"], "the pinned image is missing"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert executor.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("system", [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_other_systems_are_refused(
    system: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system[0])
    monkeypatch.setattr(platform, "machine", lambda: system[1])
    assert executor.main([]) == 2
    assert "runs only on Linux x86-64" in capsys.readouterr().err


def test_an_image_of_an_older_lock_is_not_served(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / ".executor" / "image").mkdir()
    (repository / ".executor" / "image" / STAMP).write_text("of an older lock")
    assert executor.main(["--port=0"]) == 2
    assert "the pinned image is of an older lock: run ./setup.sh --executor" in capsys.readouterr().err


def test_a_port_in_use_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert executor.main([f"--port={port}"]) == 2
    assert f"port {port} is in use" in capsys.readouterr().err


def test_missing_programs_are_an_error_that_says_how_to_get_them(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / ".executor" / "buildbox" / "buildbox-casd").unlink()
    assert executor.main([]) == 2
    assert "run ./setup.sh --executor" in capsys.readouterr().err


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATIVELINK_API_KEY", "secret-9181")
    assert parse([]).api_key is None
    settings = parse(["--require_key"])
    assert settings.api_key == "secret-9181"
    assert "secret-9181" not in repr(settings)


def test_mounts_that_were_left_behind_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        f"proc {tmp_path}/proc proc rw 0 0\n"
        f"buildbox-fuse {tmp_path}/a\\040state/cas fuse.buildbox-fuse rw 0 0\n"
        f"buildbox-fuse {tmp_path}/a\\040state/cas/deeper fuse.buildbox-fuse rw 0 0\n"
        f"buildbox-fuse {tmp_path}/another/cas fuse.buildbox-fuse rw 0 0\n"
    )
    monkeypatch.setattr(fuse_mounts, "_TABLE", table)
    state = tmp_path / "a state"
    assert fuse_mounts.mounted_below(state) == [state / "cas" / "deeper", state / "cas"]


def test_failed_actions_are_not_cached(tmp_path: Path) -> None:
    settings = CasdSettings(programs=tmp_path, state=tmp_path, slots=3, bind_mounts=[Path("/usr")], cache_bytes=10)
    command = settings.command()
    assert "--cache-failures=false" in command
    assert "--jobs=3" in command
    assert "--runner-arg=--bind-mount=/usr:/usr" in command


# Listens as casd does, leaves its environment beside the socket, and logs.
CASD = f"""#!{sys.executable}
import pathlib, signal, socket, sys
[path] = [a.removeprefix("--bind=unix:") for a in sys.argv if a.startswith("--bind=unix:")]
pathlib.Path(path).with_name("environ").write_bytes(pathlib.Path("/proc/self/environ").read_bytes())
print("2026-11-26T06:58:00.197+0000 [1:2] [daemon.cpp:428] [INFO] --cleanup-threshold: 87.75%", flush=True)
if not pathlib.Path(path).with_name("broken").exists():
    socket.socket(socket.AF_UNIX).bind(path)
    signal.pause()
print("2026-11-26T06:58:01.197+0000 [1:2] [daemon.cpp:77] [ERROR] no space left on device", flush=True)
print("2026-11-26T06:58:02.197+0000 [1:2] [daemon.cpp:99] [INFO] exiting", flush=True)
sys.exit(3)
"""


@pytest.fixture
def casd_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CasdSettings]:
    """Settings for the program above."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("buildbox-casd", CASD), ("bwrap", "")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/secret-4471/bin:/usr/bin:/bin")
    # Not below tmp_path, which may be too long for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield CasdSettings(programs=programs, state=Path(folder, "state"), slots=1, bind_mounts=[], cache_bytes=1)


def test_casd_and_its_actions_see_nothing_of_the_environment_of_who_starts_it(
    casd_settings: CasdSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-4471")
    monkeypatch.setenv("NATIVELINK_API_KEY", "secret-4471")
    casd, state = Casd(casd_settings), casd_settings.state
    try:
        environment = dict(line.split("=", 1) for line in (state / "environ").read_text().split("\0")[:-1])
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (state, state / "casd.sock")]
    finally:
        casd.stop()
    assert set(environment) == {"PATH", "HOME", "LANG"}
    assert "secret-4471" not in str(environment)
    assert str(casd_settings.programs) in environment["PATH"].split(":")
    # Another user cannot reach it past the gateway either.
    assert modes == [0o700, 0o600]


def test_a_casd_that_is_killed_is_reported_as_killed_and_not_by_what_it_logged_before(
    casd_settings: CasdSettings,
) -> None:
    casd = Casd(casd_settings)
    os.kill(casd.pid, signal.SIGKILL)
    casd.stop()
    assert casd.failure() == f"ended by SIGKILL, which Linux sends when memory runs out / its log is {casd.log}"


def test_a_casd_that_does_not_start_is_reported_with_its_error_and_exit_code(casd_settings: CasdSettings) -> None:
    casd_settings.state.mkdir()
    (casd_settings.state / "broken").touch()
    with pytest.raises(RequestError, match=r"did not start: exit code 3 / .* no space left on device / its log is "):
        Casd(casd_settings)
