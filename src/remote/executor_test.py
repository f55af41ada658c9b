"""The executor refuses what it cannot serve in one sentence, before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from src.remote import executor
from src.remote.image.inputs import STAMP
from src.remote.serving import fuse_mounts
from src.remote.serving.casd import CasdSettings
from src.remote.serving.settings import parse


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which ./setup.sh --executor has been run, or so it looks."""
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("NATIVELINK_API_KEY", raising=False)
    program = tmp_path / ".executor" / "buildbox" / "buildbox-casd"
    program.parent.mkdir(parents=True)
    program.write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slots=0"], "--slots has to be at least 1"),
        (["--demand_key"], "set NATIVELINK_API_KEY"),
        (["--nonsense"], "unrecognized arguments: --nonsense: see --help"),
        (["--port=0"], "the pinned image is not here"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert executor.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_image_of_an_older_lock_is_not_served_under_the_new_name(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / ".executor" / "image").mkdir()
    (workspace / ".executor" / "image" / STAMP).write_text("of an older lock")
    assert executor.main(["--port=0"]) == 2
    assert "the pinned image is of an older lock: run ./setup.sh --executor" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert executor.main([f"--port={port}"]) == 2
    assert f"port {port} is taken" in capsys.readouterr().err


def test_without_its_programs_it_says_how_to_get_them(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / ".executor" / "buildbox" / "buildbox-casd").unlink()
    assert executor.main([]) == 2
    assert "run ./setup.sh --executor" in capsys.readouterr().err


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATIVELINK_API_KEY", "secret-9181")
    assert parse([]).api_key is None
    settings = parse(["--demand_key"])
    assert settings.api_key == "secret-9181"
    assert "secret-9181" not in repr(settings)


def test_what_has_stayed_mounted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_failed_actions_are_not_handed_out_again(tmp_path: Path) -> None:
    settings = CasdSettings(programs=tmp_path, state=tmp_path, slots=3, bind_mounts=[Path("/usr")], cache_bytes=10)
    command = settings.command()
    assert "--cache-failures=false" in command
    assert "--jobs=3" in command
    assert "--runner-arg=--bind-mount=/usr:/usr" in command
