"""configure writes user.bazelrc from settings, or refuses them in one sentence and writes nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from src.remote import configure
from src.remote.config.endpoints import SERVERS, SETTINGS, read_endpoints
from src.remote.config.user_bazelrc import BEGIN, END

REPOSITORY = Path(__file__).parents[2]
KEY = "k3y-0f-a-test-0123456789"
CLOUD = f"NATIVELINK_ACCOUNT=jane-doe-x1\nNATIVELINK_API_KEY={KEY}\n"
SELF_HOSTED = "NATIVELINK_CACHE=grpc://127.0.0.1:50051\nNATIVELINK_EXECUTOR=grpc://127.0.0.1:50052\n"


def run(root: Path, env: str | None, *arguments: str, **environment: str) -> int:
    """Runs configure in a repository, as `bazel run` does; returns its exit code."""
    if env is not None:
        (root / ".env").write_text(env)
        (root / ".env").chmod(0o600)
    return configure.main(arguments, environment={"BUILD_WORKSPACE_DIRECTORY": str(root)} | environment)


def written(root: Path) -> list[str]:
    return (root / "user.bazelrc").read_text().splitlines()


def test_the_account_of_the_cloud_becomes_its_endpoints(tmp_path: Path) -> None:
    assert run(tmp_path, CLOUD) == 0
    domain = "build-faster.nativelink.net"
    helper = "%workspace%/tools/online/credential_helper"
    assert written(tmp_path) == [
        BEGIN,
        f"build:{SERVERS} --remote_executor=grpcs://scheduler-jane-doe-x1.{domain}:443",
        f"build:{SERVERS} --remote_cache=grpcs://cas-jane-doe-x1.{domain}",
        f"build:{SERVERS} --bes_backend=grpcs://bes-jane-doe-x1.{domain}",
        f"build:{SERVERS} --bes_results_url=https://app.nativelink.com/a/jane-doe/build",
        *(
            f"build:{SERVERS} --credential_helper={name}-jane-doe-x1.{domain}={helper}"
            for name in ("cas", "scheduler", "bes")
        ),
        f"# x-nativelink-api-key: {KEY}",
        END,
    ]


def test_it_says_what_the_bazel_that_runs_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for python, relay in (("/usr/bin/python3", True), ("", False)):
        assert run(tmp_path, CLOUD, AIRGAP_PYTHON=python) == 0
        output = capsys.readouterr().out
        assert ("bazel run //src/remote:relay" in output) is relay
        assert ("bazel shutdown" in output) is not relay
        assert any("127.0.0.1" in line for line in written(tmp_path)) is relay


def test_the_key_may_come_as_the_file_descriptor_that_tools_bazel_passes(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, f"{KEY}\n".encode())
    os.close(writer)
    account = "NATIVELINK_ACCOUNT=jane-doe-x1\n"
    assert run(tmp_path, account, NATIVELINK_API_KEY_FD=str(reader)) == 0
    os.close(reader)
    assert f"# x-nativelink-api-key: {KEY}" in written(tmp_path)
    # A shell may have passed on the variable without the descriptor.
    assert run(tmp_path, account, NATIVELINK_API_KEY_FD=str(reader)) == 2


def test_self_hosted_endpoints_need_neither_account_nor_key(tmp_path: Path) -> None:
    assert run(tmp_path, SELF_HOSTED + "NATIVELINK_BES=grpc://localhost:50053\n", AIRGAP_PYTHON="x") == 0
    assert written(tmp_path)[1:-1] == [
        f"build:{SERVERS} --remote_executor=grpc://127.0.0.1:50052",
        f"build:{SERVERS} --remote_cache=grpc://127.0.0.1:50051",
        f"build:{SERVERS} --bes_backend=grpc://localhost:50053",
    ]


def test_with_a_cache_only_actions_run_locally(tmp_path: Path) -> None:
    assert run(tmp_path, CLOUD + "NATIVELINK_EXECUTOR=none\nNATIVELINK_BES=none\n") == 0
    assert f"build:{SERVERS} --remote_executor=" in written(tmp_path)
    assert not any("scheduler" in line or "bes" in line for line in written(tmp_path))


def test_the_environment_takes_precedence_over_the_file_and_needs_none(tmp_path: Path) -> None:
    assert run(tmp_path, None, NATIVELINK_ACCOUNT="ci-z9", NATIVELINK_API_KEY=KEY) == 0
    assert any("cas-ci-z9." in line for line in written(tmp_path))
    assert run(tmp_path, CLOUD, NATIVELINK_ACCOUNT="other-z9") == 0
    assert any("cas-other-z9." in line for line in written(tmp_path))


def test_certificates_get_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "my ca.pem").touch()
    env = "NATIVELINK_EXECUTOR=grpcs://build.example:443\nNATIVELINK_TLS_CERTIFICATE='my ca.pem'\n"
    assert run(tmp_path, env) == 0
    assert f'build:{SERVERS} "--tls_certificate={tmp_path}/my ca.pem"' in written(tmp_path)


def test_the_rest_of_user_bazelrc_is_kept(tmp_path: Path) -> None:
    before, after = "build --jobs=3\n", "\n# mine\nbuild:remote --jobs=50"
    (tmp_path / "user.bazelrc").write_text(before)
    assert run(tmp_path, CLOUD) == 0
    with (tmp_path / "user.bazelrc").open("a") as file:
        file.write(after)
    for _ in range(2):
        assert run(tmp_path, SELF_HOSTED) == 0
    text = (tmp_path / "user.bazelrc").read_text()
    assert text.startswith(before + BEGIN) and text.endswith(END + "\n" + after)
    assert text.count(BEGIN) == 1 and KEY not in text
    assert run(tmp_path, None, "--remove") == 0
    assert (tmp_path / "user.bazelrc").read_text() == before + after


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    target = tmp_path / "user.bazelrc"
    target.touch(mode=0o644)
    assert run(tmp_path, CLOUD) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "user.bazelrc"]


def test_the_key_is_never_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lane in ("online", "airgap"):
        assert run(tmp_path, CLOUD, f"--lane={lane}") == 0
    for env in (
        CLOUD.replace("-x1", "_X"),
        CLOUD + "NATIVELINK_CACHE=grpc://far.example:1\n",
        f"NATIVELINK_API_KEY=#{KEY}",
    ):
        assert run(tmp_path, env) == 2
    output = capsys.readouterr()
    assert KEY not in output.out + output.err
    endpoints = read_endpoints({"NATIVELINK_ACCOUNT": "a", "NATIVELINK_API_KEY": KEY}, folder=tmp_path)
    assert KEY not in f"{endpoints!r} {endpoints}"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (None, "cp .env.example .env"),
        ("", "cp .env.example .env"),
        ("NATIVELINK_ACCOUNT=jane\n", "needs NATIVELINK_API_KEY"),
        (CLOUD.replace("jane-doe-x1", "grpcs://cas-jane.build-faster.nativelink.net"), "the account name only"),
        (CLOUD.replace(KEY, f"x-nativelink-api-key={KEY}"), "the key only"),
        (CLOUD.replace(KEY, "short"), "is malformed"),
        (CLOUD.replace(KEY, f'"{KEY}\\nbuild --remote_cache=grpc://evil.example"'), "is malformed"),
        (CLOUD + "NATIVELINK_CACHE=https://x.example\n", "NATIVELINK_CACHE must be grpcs://HOST:PORT"),
        (CLOUD + "NATIVELINK_CACHE='grpcs://x.example --jobs=1'\n", "NATIVELINK_CACHE must be"),
        (CLOUD + "NATIVELINK_CACHE=grpcs://user:secret@x.example\n", "NATIVELINK_CACHE must be"),
        (CLOUD + "NATIVELINK_CACHE=grpc://x.example:1\n", "unencrypted to grpc://x.example:1: use grpcs://"),
        (CLOUD + "NATIVELINK_URL=grpcs://x.example\n", "the https:// page of build results"),
        (CLOUD + "NATIVELINK_ENDPOINT=grpcs://x.example\n", "unknown setting NATIVELINK_ENDPOINT"),
        (CLOUD + "NATIVELINK_CASHE=grpcs://x.example\n", "did you mean NATIVELINK_CACHE?"),
        ("NATIVELINK_CACHE=grpc://127.0.0.1:1\n", "NATIVELINK_EXECUTOR is missing"),
        (CLOUD + "NATIVELINK_TLS_CERTIFICATE=no.pem\n", "no such file"),
        (CLOUD + "NATIVELINK_TLS_CLIENT_KEY=.env\n", "must be set together"),
        (SELF_HOSTED + "NATIVELINK_TLS_CERTIFICATE=.env\n", "no effect on grpc://127.0.0.1:50051"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], env: str | None, message: str
) -> None:
    assert run(tmp_path, env) == 2
    output = capsys.readouterr()
    assert message in output.err and output.err.count("\n") == 1 and output.out == ""
    assert not (tmp_path / "user.bazelrc").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env_file=nowhere"], "no such file"),
        (["--lane=moon"], "see --help"),
        (["stray"], "see --help"),
    ],
)
def test_a_wrong_command_line_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(tmp_path, CLOUD, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_block_without_one_of_its_markers_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "user.bazelrc").write_text(f"{BEGIN}\nbuild --jobs=1\n")
    assert run(tmp_path, CLOUD) == 2
    assert "has lost one of the lines" in capsys.readouterr().err
    assert KEY not in (tmp_path / "user.bazelrc").read_text()


def test_a_failed_write_leaves_the_file_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user.bazelrc").write_text("build --jobs=1\n")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run(tmp_path, CLOUD) == 1
    assert "user.bazelrc is unchanged" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "user.bazelrc"]
    assert written(tmp_path) == ["build --jobs=1"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_no_key_is_written_where_git_would_commit_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git = ["git", "-c", "safe.directory=*", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert run(tmp_path, CLOUD) == 2
    assert "git does not ignore user.bazelrc" in capsys.readouterr().err
    shutil.copyfile(REPOSITORY / ".gitignore", tmp_path / ".gitignore")
    subprocess.run([*git, "add", "--force", ".env"], check=True)
    assert run(tmp_path, CLOUD) == 2
    assert "git tracks .env" in capsys.readouterr().err
    subprocess.run([*git, "rm", "--quiet", "--cached", ".env"], check=True)
    assert run(tmp_path, CLOUD) == 0
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert status.stdout == "?? .gitignore\n"


def test_the_example_names_every_setting_and_no_value(tmp_path: Path) -> None:
    example = (REPOSITORY / ".env.example").read_text()
    names = [line for line in example.splitlines() if line and not line.startswith("#")]
    assert {name.removesuffix("=") for name in names} >= set(SETTINGS)
    assert all(name.endswith("=") for name in names)
    assert (
        run(tmp_path, example.replace("ACCOUNT=\n", "ACCOUNT=a\n", 1).replace("API_KEY=\n", f"API_KEY={KEY}\n", 1)) == 0
    )
