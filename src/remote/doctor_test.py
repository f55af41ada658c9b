"""Doctor names what is wrong, why, and what to do, and takes no longer than it was given."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from src.remote import doctor
from src.remote.checks import worker_checks
from src.remote.config.execution_platform import PLATFORM_FILE, read_platform
from src.remote.end_to_end.memory_executor import MemoryExecutor, served
from src.remote.serving.admission import Offer
from src.remote.serving.gateway import Door, Gateway

HEADER = "x-nativelink-api-key"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a config `r`, whose image's Python is this one and whose lock is a package of it."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "src").mkdir()
    text = PLATFORM_FILE.read_text().replace(read_platform().python, sys.executable)
    (tmp_path / "docker" / "platform.bzl").write_text(text)
    (tmp_path / "docker" / "omitted_packages.txt").write_text("# not there\nruff\n")
    pins = f"pytest=={pytest.__version__} \\\n    --hash=sha256:0\nruff==0 \\\n    --hash=sha256:0\n"
    (tmp_path / "bazel_requirements_lock.txt").write_text(pins)
    (tmp_path / "src" / "BUILD").write_text('t(\n    size = "large",\n)\n')
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def address() -> Iterator[str]:
    """An executor that demands the key `right` and lets strangers wait."""
    properties = read_platform().exec_properties
    with served(MemoryExecutor(time_limit=1000)) as upstream, grpc.insecure_channel(upstream) as channel:
        front = Gateway(
            upstream=channel,
            offer=Offer(properties=properties, image=None),
            door=Door(header=HEADER, key="right-key"),
            queue_strangers=True,
            own={},
        )
        with served(front) as address:
            yield address
            front.stopping.set()


def examine(repository: Path, address: str, *arguments: str, capsys: pytest.CaptureFixture[str], key: str) -> tuple:
    lines = [f"build:r --remote_executor=grpc://{address}", f"build:r --remote_header={HEADER}={key}"]
    (repository / ".bazelrc").write_text("\n".join(lines) + "\n")
    code = doctor.main(["--config=r", "--json", *arguments])
    output = capsys.readouterr().out
    assert key not in output
    document = json.loads(output)
    assert document["ok"] == (code == 0)
    return code, {finding["check"]: finding for finding in document["findings"]}


def test_all_is_well(repository: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examine(repository, address, capsys=capsys, key="right-key")
    bad = [finding for finding in found.values() if finding["level"] in ("error", "warning")]
    # Whether zip and file are here is this machine's affair.
    assert [finding["check"] for finding in bad if finding["check"] not in ("programs", "cpu")] == []
    assert (
        found["platform"]["level"] == found["packages"]["level"] == found["time limit of large tests"]["level"] == "ok"
    )
    assert code == (1 if bad else 0)


def test_a_mistyped_image_is_found_in_the_time_given(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    arguments = ("--image=docker://mistyped:1", "--wait=2")
    code, found = examine(repository, address, *arguments, capsys=capsys, key="right-key")
    assert time.monotonic() - started < 10
    assert (code, found["platform"]["level"]) == (1, "error")
    assert "waits for more than 2 seconds" in found["platform"]["symptom"]
    assert (
        "no worker has container-image=docker://mistyped:1: without it the same action runs"
        in found["platform"]["cause"]
    )


def test_a_wrong_key_is_told_and_not_shown(repository: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examine(repository, address, capsys=capsys, key="wrong-key-5512")
    assert (code, found["executor key"]["cause"]) == (1, "the key is wrong or no longer valid")
    assert "platform" not in found


def test_nobody_listens(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        code, found = examine(repository, f"127.0.0.1:{port}", capsys=capsys, key="any-key-12")
    assert (code, found["executor reached"]["cause"]) == (1, "Connection refused")
    assert "//src/remote:executor" in found["executor reached"]["remedy"]


def test_a_relay_that_is_not_there_is_told_from_a_server_that_is_not(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "build:remote --remote_executor=grpc://127.0.0.1:1",
        f"build:remote-upstream --remote_executor=grpc://{address}",
        f"# {HEADER}: right-key",
    ]
    (repository / ".bazelrc").write_text("")
    (repository / "user.bazelrc").write_text("\n".join(lines) + "\n")
    assert doctor.main(["--json"]) == 1
    output = capsys.readouterr().out
    assert "right-key" not in output
    found = {finding["check"]: finding for finding in json.loads(output)["findings"]}
    assert found["executor reached"]["level"] == "ok"
    assert found["relay to the executor reached"]["remedy"].endswith("bazel run //src/remote:relay")


def test_another_version_on_the_worker_is_named(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = repository / "bazel_requirements_lock.txt"
    lock.write_text("pytest==0.1 \\\n    --hash=sha256:0\nno-such-package==1 \\\n    --hash=sha256:0\n")
    _, found = examine(repository, address, capsys=capsys, key="right-key")
    assert found["packages"]["symptom"].startswith("2 of 2 differ: no-such-package is missing, pytest is ")


def test_a_limit_below_a_test_size_in_use_is_named(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "src" / "BUILD").write_text('t(\n    size = "enormous",\n)\nt(\n    size = "small",\n)\n')
    _, found = examine(repository, address, capsys=capsys, key="right-key")
    assert found["time limit of enormous tests"]["level"] == "error"
    assert "max_action_timeout" in found["time limit of enormous tests"]["remedy"]
    assert found["time limit of small tests"]["level"] == "ok"


def test_tests_that_did_not_run_remotely_are_named(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def result(label: str, strategy: str) -> str:
        event = {"id": {"testResult": {"label": label}}}
        return json.dumps({**event, "testResult": {"status": "PASSED", "executionInfo": {"strategy": strategy}}}) + "\n"

    events = tmp_path / "events.json"
    events.write_text(result("//a:far", "remote") + result("//a:hit", "remote cache hit"))
    argument = f"--build_events={events}"
    _, found = examine(repository, address, argument, capsys=capsys, key="right-key")
    assert found["tests ran remotely"]["symptom"] == "1 remote, 1 remote cache hit"
    events.write_text(result("//a:far", "remote") + result("//a:near", "linux-sandbox"))
    _, found = examine(repository, address, argument, capsys=capsys, key="right-key")
    assert found["tests ran remotely"]["symptom"] == "1 of 2 did not: //a:near (linux-sandbox)"
    events.write_text("no json")
    _, found = examine(repository, address, argument, capsys=capsys, key="right-key")
    assert found["tests ran remotely"]["level"] == "error"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--config=none"], "has a config none"), (["--config=r", "--nonsense"], "--nonsense is no flag for Bazel")],
)
def test_a_wrong_request_is_one_sentence(
    repository: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / ".bazelrc").write_text("build:r --remote_executor=grpc://127.0.0.1:1\n")
    assert doctor.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_worker_without_zip_is_told_what_for() -> None:
    found = worker_checks._programs({"bash": True, "zip": False, "file": False})
    assert (found.level, found.symptom) == ("error", "the worker has no zip and no file")
    assert "test.outputs" in found.cause


def test_a_cpu_without_avx2_is_an_error() -> None:
    assert worker_checks._cpu(["sse4_2", "fma"]).symptom == "the worker's CPU has no avx2"
