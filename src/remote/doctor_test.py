"""Doctor names symptom, cause and remedy within its timeout."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from src.remote import doctor
from src.remote.checks import isolation, worker_system, workers
from src.remote.config.endpoints import KEY_HEADER
from src.remote.config.execution_platform import PLATFORM_FILE, read_platform
from src.remote.reapi.client import Endpoint
from src.remote.relay import Relay
from src.remote.serving.activity import Activity
from src.remote.serving.certificate import make_certificate
from src.remote.serving.loopback import listen
from src.remote.testing.gateways import served_gateway
from src.remote.testing.memory_executor import MemoryExecutor


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a config `r`, whose image's Python is this one and whose lock is a package of it."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "src").mkdir()
    text = PLATFORM_FILE.read_text().replace(read_platform().python, sys.executable)
    (tmp_path / "docker" / "platform.bzl").write_text(text)
    (tmp_path / "docker" / "omitted_packages.txt").write_text("# left out\nruff\n")
    pins = f"pytest=={pytest.__version__} \\\n    --hash=sha256:0\nruff==0 \\\n    --hash=sha256:0\n"
    (tmp_path / "bazel_requirements_lock.txt").write_text(pins)
    (tmp_path / "src" / "BUILD").write_text('t(\n    size = "large",\n)\n')
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def address() -> Iterator[str]:
    """An executor that requires the key `right-key` and queues unmatched actions."""
    executor = MemoryExecutor(time_limit=1000)
    properties = read_platform().exec_properties
    with served_gateway(executor, properties=properties, key="right-key", queue_unmatched=True) as address:
        yield address


@pytest.fixture(autouse=True)
def airgap_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test asks for the other one: its workers have the image's packages."""
    monkeypatch.setenv("AIRGAP_PYTHON", sys.executable)


def run_doctor(repository: Path, address: str, *arguments: str, capsys: pytest.CaptureFixture[str], key: str) -> tuple:
    lines = [f"build:r --remote_executor=grpc://{address}", f"build:r --remote_header={KEY_HEADER}={key}"]
    (repository / ".bazelrc").write_text("\n".join(lines) + "\n")
    code = doctor.main(["--config=r", "--json", *arguments])
    output = capsys.readouterr().out
    assert key not in output
    report = json.loads(output)
    assert report["ok"] == (code == 0)
    return code, {finding["check"]: finding for finding in report["findings"]}


def test_a_working_executor_has_no_errors(repository: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = run_doctor(repository, address, capsys=capsys, key="right-key")
    bad = [finding for finding in findings.values() if finding["level"] in ("error", "warning")]
    # This machine may lack zip, file or AVX2, and this executor isolates nothing.
    assert [finding["check"] for finding in bad if finding["check"] not in ("programs", "cpu", "isolation")] == []
    assert (
        findings["platform"]["level"]
        == findings["packages"]["level"]
        == findings["time limit of large tests"]["level"]
        == "ok"
    )
    assert code == any(finding["level"] == "error" for finding in bad)


def test_a_mistyped_image_is_named_within_the_timeout(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    arguments = ("--image=docker://mistyped:1", "--wait=2")
    code, findings = run_doctor(repository, address, *arguments, capsys=capsys, key="right-key")
    assert time.monotonic() - started < 30
    assert (code, findings["platform"]["level"]) == (1, "error")
    assert "waits for more than 2 seconds" in findings["platform"]["symptom"]
    assert (
        "no worker has container-image=docker://mistyped:1: without it the same action runs"
        in findings["platform"]["cause"]
    )


def test_a_wrong_key_is_reported_and_not_shown(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, findings = run_doctor(repository, address, capsys=capsys, key="wrong-key-5512")
    assert (code, findings["executor key"]["cause"]) == (1, "the key is wrong or has expired")
    assert "platform" not in findings


def test_a_refused_connection_is_reported(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        code, findings = run_doctor(repository, f"127.0.0.1:{port}", capsys=capsys, key="any-key-12")
    assert (code, findings["executor reached"]["cause"]) == (1, "Connection refused")
    assert "//src/remote:executor" in findings["executor reached"]["remedy"]


def test_a_missing_relay_is_distinguished_from_a_missing_server(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "build:remote --remote_executor=grpc://127.0.0.1:1",
        f"build:remote-upstream --remote_executor=grpc://{address}",
        f"# {KEY_HEADER}: right-key",
    ]
    (repository / ".bazelrc").write_text("")
    (repository / "user.bazelrc").write_text("\n".join(lines) + "\n")
    assert doctor.main(["--json"]) == 1
    output = capsys.readouterr().out
    assert "right-key" not in output
    findings = {finding["check"]: finding for finding in json.loads(output)["findings"]}
    assert findings["executor reached"]["level"] == "ok"
    assert findings["relay to the executor reached"]["remedy"].endswith("bazel run //src/remote:relay")


def test_a_relay_that_was_started_before_the_certificate_changed_is_to_be_restarted(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = make_certificate(tmp_path / "old"), make_certificate(tmp_path / "new")
    executor = MemoryExecutor()
    with served_gateway(executor, properties={}, key="right-key", credentials=new.credentials) as address:
        # As an executor with --tls that was restarted: same address, another certificate.
        stale = Endpoint(url=f"grpcs://{address}", certificate=old.path.read_bytes())
        relay = Relay(stale, activity=Activity())
        server, port = listen(relay, port=0)
        lines = [
            f"build:remote --remote_executor=grpc://127.0.0.1:{port}",
            f"build:remote-upstream --remote_executor={stale.url} --tls_certificate={new.path}",
            f"# {KEY_HEADER}: right-key",
        ]
        (repository / "user.bazelrc").write_text("\n".join(lines) + "\n")
        try:
            assert doctor.main(["--json"]) == 1
        finally:
            server.stop(None).wait()
            relay.close()
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["executor reached"]["level"] == findings["relay to the executor reached"]["level"] == "ok"
    assert findings["executor answers"]["remedy"].endswith("start it again: bazel run //src/remote:relay")


def test_a_server_that_wants_a_client_certificate_is_not_called_another_program(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = make_certificate(tmp_path / "server")
    pair = (server.key_path.read_bytes(), server.path.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], root_certificates=pair[1], require_client_auth=True)
    with served_gateway(MemoryExecutor(), properties={}, credentials=credentials) as address:
        flags = f"--remote_executor=grpcs://{address} --tls_certificate={server.path}"
        (repository / ".bazelrc").write_text(f"build:r {flags}\n")
        assert doctor.main(["--config=r", "--json"]) == 1
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["executor reached"]["level"] == "ok"
    assert "refuses the client certificate" in findings["executor answers"]["cause"]
    assert "NATIVELINK_TLS_CLIENT_CERTIFICATE" in findings["executor answers"]["remedy"]


def test_where_actions_bring_their_python_the_worker_is_asked_for_what_runs_it(
    repository: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = repository / "docker" / "platform.bzl"
    platform.write_text(platform.read_text().replace(sys.executable, "/no/such/python"))
    _, findings = run_doctor(repository, address, capsys=capsys, key="right-key")
    assert findings["python"]["level"] == "error"
    for arguments, lane in (([], ""), (["--lane=online"], sys.executable)):
        monkeypatch.setenv("AIRGAP_PYTHON", lane)
        _, findings = run_doctor(repository, address, *arguments, capsys=capsys, key="right-key")
        assert not {"python", "packages"} & set(findings)
        assert findings["system"]["level"] == findings["programs"]["level"] == "ok", findings
        assert "zip" not in findings["programs"]["symptom"]


@pytest.mark.parametrize(
    ("machine", "libc", "level"),
    [
        ("x86_64", "glibc 2.36", "ok"),
        ("x86_64", "glibc 2.28", "ok"),
        ("x86_64", "glibc 2.17", "error"),
        ("x86_64", "", "error"),
        ("aarch64", "glibc 2.36", "error"),
        ("", "", "error"),
    ],
)
def test_a_worker_that_cannot_run_the_packages_is_an_error(machine: str, libc: str, level: str) -> None:
    assert worker_system._system(machine, libc).level == level


def test_a_program_that_a_worker_lacks_is_named() -> None:
    assert worker_system._programs(["find", "tar"]).symptom == "the worker has no find and no tar"


def test_a_version_mismatch_on_the_worker_is_named(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = repository / "bazel_requirements_lock.txt"
    lock.write_text("pytest==0.1 \\\n    --hash=sha256:0\nno-such-package==1 \\\n    --hash=sha256:0\n")
    _, findings = run_doctor(repository, address, capsys=capsys, key="right-key")
    assert findings["packages"]["symptom"].startswith("2 of 2 differ: no-such-package is missing, pytest is ")


def test_a_limit_below_a_test_size_in_use_is_named(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "src" / "BUILD").write_text('t(\n    size = "enormous",\n)\nt(\n    size = "small",\n)\n')
    _, findings = run_doctor(repository, address, capsys=capsys, key="right-key")
    assert findings["time limit of enormous tests"]["level"] == "error"
    assert "max_action_timeout" in findings["time limit of enormous tests"]["remedy"]
    assert findings["time limit of small tests"]["level"] == "ok"


def test_tests_that_did_not_run_remotely_are_named(
    repository: Path, address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def result(label: str, strategy: str) -> str:
        event = {"id": {"testResult": {"label": label}}}
        return json.dumps({**event, "testResult": {"status": "PASSED", "executionInfo": {"strategy": strategy}}}) + "\n"

    events = tmp_path / "events.json"
    events.write_text(result("//a:far", "remote") + result("//a:hit", "remote cache hit"))
    argument = f"--build_events={events}"
    _, findings = run_doctor(repository, address, argument, capsys=capsys, key="right-key")
    assert findings["tests ran remotely"]["symptom"] == "1 remote, 1 remote cache hit"
    events.write_text(result("//a:far", "remote") + result("//a:near", "linux-sandbox"))
    _, findings = run_doctor(repository, address, argument, capsys=capsys, key="right-key")
    assert findings["tests ran remotely"]["symptom"] == "1 of 2 did not: //a:near (linux-sandbox)"
    events.write_text("no json")
    _, findings = run_doctor(repository, address, argument, capsys=capsys, key="right-key")
    assert findings["tests ran remotely"]["level"] == "error"


def test_what_an_action_can_reach_is_named(repository: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, findings = run_doctor(repository, address, capsys=capsys, key="right-key")
    assert findings["isolation"]["level"] == "warning"
    assert "sees processes that are not its own" in findings["isolation"]["symptom"]
    assert "docker/run_action" in findings["isolation"]["cause"]


@pytest.mark.parametrize(
    ("lines", "level", "symptom"),
    [
        ([], "ok", "an action has no network, its own processes and its own inputs"),
        (["interface eth0", "process b", "process a"], "warning", "has the worker's network (eth0); it sees processes"),
        (["interface eth0", "server cas/50051"], "warning", "an action connects to cas/50051"),
        (
            ["changes inputs"],
            "warning",
            "an action can change the worker's copy of its inputs, which other actions get",
        ),
    ],
)
def test_each_way_out_of_an_action_is_a_warning(lines: list[str], level: str, symptom: str) -> None:
    finding = isolation.isolation_finding([*lines, "asked everything"])
    assert (finding.level, symptom in finding.symptom) == (level, True)
    assert isolation.isolation_finding(lines).level == "warning"


def test_the_probe_notices_an_input_that_is_a_hard_link(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    for links, changes in ((True, True), (False, False)):
        stored.write_text("stored")
        stored.chmod(0o555)
        (folder := tmp_path / str(links)).mkdir()
        if links:
            (folder / isolation._INPUT).hardlink_to(stored)
        else:
            shutil.copy(stored, folder / isolation._INPUT)
        done = subprocess.run(["bash", "-c", isolation._PROBE], cwd=folder, capture_output=True, text=True, check=True)
        assert ("changes inputs" in done.stdout) == changes == (stored.read_text() != "stored")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=none"], "has a config none"),
        (["--config=r", "--nonsense"], "--nonsense is not a Bazel flag"),
        (["--config=r", "--executor=grpc://127.0.0.1:1"], "--executor would have no effect"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    repository: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / ".bazelrc").write_text("build:r --remote_executor=grpc://127.0.0.1:1\n")
    assert doctor.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_worker_without_zip_is_an_error_with_the_reason() -> None:
    finding = workers._programs({"bash": True, "zip": False, "file": False})
    assert (finding.level, finding.symptom) == ("error", "the worker has no zip and no file")
    assert "test.outputs" in finding.cause


def test_a_cpu_without_avx2_is_an_error() -> None:
    assert workers.cpu_finding(["sse4_2", "fma"]).symptom == "the worker's CPU has no avx2"


def test_a_worker_without_proc_is_not_taken_for_one_whose_python_or_cpu_is_wrong() -> None:
    script = workers._PROBE.read_text().replace("/proc/", "/no/such/folder/")
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, check=True)
    worker = json.loads(done.stdout)
    assert worker["executable"] == sys.executable
    assert workers.cpu_finding(worker["cpu_flags"]).level == "warning"


def test_test_sizes_are_read_from_rules_and_from_py_modules(repository: Path) -> None:
    (repository / "src" / "BUILD").write_text(
        'sh_test(\n    size = "large",\n)\npy_modules(\n    data = {\n    },\n    tests = {\n        "small": {\n'
    )
    assert workers.sizes_in_use(repository) == ["small", "large"]
