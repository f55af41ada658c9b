"""The files in docker/ agree with docker/platform.bzl and with each other."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.remote.config.execution_platform import read_platform
from src.remote.nativelink import docker_files
from src.remote.nativelink.config import CAS_WORKERS_PORT, DIALECTS, HEALTH_PORT, WORKER_API_PORT

SERVICES = ("cas", "scheduler", "worker")
COMPOSE_CONFIGS = sorted(f"docker/{dialect.name}-{service}.json5" for dialect in DIALECTS for service in SERVICES)
ENCRYPTED_CONFIGS = sorted(
    [name.replace("docker/", "docker/tls/") for name in COMPOSE_CONFIGS]
    + [f"docker/kubernetes/base/{service}.json5" for service in SERVICES]
    + ["docker/kubernetes/overlays/s3/cas.json5"]
)
CONFIGS = COMPOSE_CONFIGS + ENCRYPTED_CONFIGS
SECCOMP = docker_files.ROOT / "docker" / "seccomp_worker.json"
PUBLISHED = "registry.example/executor@sha256:" + "5" * 64


def read_config(name: str) -> dict[str, Any]:
    lines = (docker_files.ROOT / name).read_text().splitlines(keepends=True)
    return json.loads("".join(line for line in lines if not line.startswith("//")))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the files that docker_files reads."""
    names = {*docker_files.IMAGE_INPUTS, docker_files.COMPOSE_FILE, docker_files.PLATFORM, *CONFIGS}
    for name in names | {docker_files.WORKER_MANIFEST, *docker_files.KUSTOMIZATIONS}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(docker_files.ROOT / name, tmp_path / name)
    return tmp_path


def test_the_checked_in_files_are_up_to_date() -> None:
    assert list(docker_files.differing(docker_files.ROOT)) == [], (
        "run: .venv/bin/python -m src.remote.nativelink.docker_files"
    )


@pytest.mark.parametrize("name", docker_files.IMAGE_INPUTS)
def test_a_change_of_any_input_of_the_image_changes_the_requested_image(root: Path, name: str) -> None:
    before = read_platform(root / docker_files.PLATFORM).container_image
    with (root / name).open("a") as file:
        file.write("# changed\n")
    assert docker_files.main(["--check"], root=root) == 1
    assert docker_files.main([], root=root) == 0
    assert docker_files.main(["--check"], root=root) == 0
    after = read_platform(root / docker_files.PLATFORM).container_image
    assert after != before
    assert f'"{after}"' in (root / "docker/nativelink-v1.6-worker.json5").read_text()
    assert f"&executor-image {after.removeprefix('docker://')}\n" in (root / docker_files.COMPOSE_FILE).read_text()
    for kustomization in docker_files.KUSTOMIZATIONS:
        assert f"newTag: {after.rpartition(':')[2]}\n" in (root / kustomization).read_text()


def test_one_edit_of_the_platform_reaches_the_worker_the_container_and_the_image(root: Path) -> None:
    path = root / docker_files.PLATFORM
    base = read_platform(path).base_image
    text = path.read_text().replace('"cpu_count": "2"', '"cpu_count": "7"').replace(base, base[:-1] + "0")
    path.write_text(text.replace("SECONDS = 7200", "SECONDS = 600"))
    assert docker_files.main([], root=root) == 0
    worker = json.loads((root / "docker/nativelink-v0.6-worker.json5").read_text().partition("\n")[2])
    assert worker["workers"][0]["local"]["platform_properties"]["cpu_count"] == {"values": ["7"]}
    compose = (root / docker_files.COMPOSE_FILE).read_text()
    assert '&cpu-count "7"\n' in compose and f"BASE_IMAGE: ${{BASE_IMAGE:-{base[:-1]}0}}\n" in compose
    assert "    stop_grace_period: 665s\n" in compose
    manifest = (root / docker_files.WORKER_MANIFEST).read_text()
    assert "terminationGracePeriodSeconds: 665\n" in manifest and manifest.count('{cpu: "7", memory') == 2
    assert f"ARG BASE_IMAGE={base[:-1]}0\n" in (root / docker_files.DOCKERFILE).read_text()


def test_a_published_image_is_requested_until_its_inputs_change(root: Path) -> None:
    assert docker_files.main(["--published", PUBLISHED], root=root) == 0
    assert docker_files.main(["--check"], root=root) == 0
    assert read_platform(root / docker_files.PLATFORM).container_image == f"docker://{PUBLISHED}"
    # The local containers run the local image.
    assert PUBLISHED not in (root / docker_files.COMPOSE_FILE).read_text()
    (root / "docker/omitted_packages.txt").write_text("")
    assert docker_files.main([], root=root) == 0
    assert "executor:inputs-" in read_platform(root / docker_files.PLATFORM).container_image


@pytest.mark.parametrize("reference", ["registry.example/executor:latest", "executor@sha256:12", "", "a b@sha256:1"])
def test_a_published_image_without_a_digest_is_refused(root: Path, reference: str) -> None:
    with pytest.raises(SystemExit) as ended:
        docker_files.main([f"--published={reference}"], root=root)
    assert ended.value.code == 2
    assert docker_files.main(["--check"], root=root) == 0


def test_a_missing_line_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / docker_files.DOCKERFILE).write_text("FROM scratch\n")
    assert docker_files.main([], root=root) == 1
    assert "has no line like ^ARG BASE_IMAGE" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith("worker.json5")])
def test_a_worker_offers_exactly_the_requested_properties_and_time_for_the_longest_test(name: str) -> None:
    platform = read_platform()
    local = read_config(name)["workers"][0]["local"]
    offered = {key: value["values"] for key, value in local["platform_properties"].items()}
    assert offered == {key: [value] for key, value in platform.exec_properties.items()}
    time_limit = "max_action_timeout" + ("_s" if "v1." in name else "")
    assert local[time_limit] == platform.action_time_limit_seconds


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith("scheduler.json5")])
def test_the_scheduler_knows_every_property_that_actions_send(name: str) -> None:
    known = read_config(name)["schedulers"][0]["simple"]["supported_platform_properties"]
    assert known == dict.fromkeys(read_platform().exec_properties, "exact") | {"cpu_count": "minimum"}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_store_and_scheduler_that_a_config_names_is_defined_in_it(name: str) -> None:
    config = read_config(name)
    defined = {entry["name"] for key in ("stores", "schedulers") for entry in config.get(key, [])}
    assert set(named_references(config)) <= defined
    assert set(named_references(config)) or name.endswith("cas.json5")


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith("worker.json5")])
def test_workers_run_actions_by_the_program_that_the_image_holds(name: str) -> None:
    local = read_config(name)["workers"][0]["local"]
    dockerfile = (docker_files.ROOT / docker_files.DOCKERFILE).read_text()
    assert " docker/run_action docker/run_action.py /opt/nativelink/\n" in dockerfile
    assert (local["entrypoint"], local["timeout_handled_externally"]) == ("/opt/nativelink/run_action", True)
    program = (docker_files.ROOT / "docker/run_action.py").read_text()
    variables = set(local["additional_environment"]) - {"HOME"}
    assert len(variables) == 3 and all(f'"{variable}"' in program for variable in variables)
    assert "'/opt/nativelink/run_action.pyc')" in dockerfile
    assert " /opt/nativelink/run_action.pyc action " in (docker_files.ROOT / "docker/run_action").read_text()


def run_action_capabilities() -> list[str]:
    program = ast.parse((docker_files.ROOT / "docker/run_action.py").read_text())
    tables = [node.value for node in program.body if isinstance(node, ast.Assign) and "CAPABILITIES" in ast.dump(node)]
    return list(ast.literal_eval(tables[0]))


def named_references(node: Any, key: str = "") -> list[str]:
    """Returns the names by which a config refers to its stores and schedulers."""
    if isinstance(node, dict):
        if set(node) == {"name"}:
            return [node["name"]]
        return [name for child, value in node.items() for name in named_references(value, child)]
    if isinstance(node, list):
        return [name for value in node for name in named_references(value, key)]
    is_reference = key in ("cas_store", "ac_store", "scheduler", "cas_fast_slow_store")
    return [node] if is_reference and isinstance(node, str) else []


def listeners(name: str) -> dict[int, dict[str, Any]]:
    """Returns the servers of a config, by port."""
    servers = read_config(name)["servers"]
    return {int(each["listener"]["http"]["socket_address"].rpartition(":")[2]): each for each in servers}


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.endswith("worker.json5")])
def test_results_are_written_by_the_workers_port_alone(name: str) -> None:
    for port, server in listeners(name).items():
        ac = server["services"].get("ac")
        if ac is not None:
            (settings,) = ac.values() if isinstance(ac, dict) else ac
            assert settings.get("read_only", False) == (port != CAS_WORKERS_PORT)


def test_workers_and_the_scheduler_use_the_workers_ports_and_outlast_a_restart() -> None:
    for name in [name for name in CONFIGS if not name.endswith("cas.json5")]:
        for store in [store["grpc"] for store in read_config(name)["stores"] if "grpc" in store]:
            assert store["endpoints"][0]["address"].endswith(f"://cas:{CAS_WORKERS_PORT}")
            assert store["retry"]["max_retries"] == 8
        if name.endswith("worker.json5"):
            api = read_config(name)["workers"][0]["local"]["worker_api_endpoint"]
            assert api["uri"].endswith(f"://scheduler:{WORKER_API_PORT}")


@pytest.mark.parametrize("name", ENCRYPTED_CONFIGS)
def test_encrypted_services_present_a_certificate_and_ask_for_one(name: str) -> None:
    text = (docker_files.ROOT / name).read_text()
    assert "grpc://" not in text
    assert text.count('"grpcs://') == text.count('"tls_config"')
    for port, server in listeners(name).items():
        tls = server["listener"]["http"].get("tls")
        # No client's certificate opens a worker's port.
        authority = "ca.pem" if port in (CAS_WORKERS_PORT, WORKER_API_PORT) else "clients_ca.pem"
        assert (tls is None) if port == HEALTH_PORT else tls["client_ca_file"].endswith(f"/{authority}")


def test_the_services_find_each_other_under_the_names_that_compose_gives_them() -> None:
    services = yaml.safe_load((docker_files.ROOT / docker_files.COMPOSE_FILE).read_text())["services"]
    for name in COMPOSE_CONFIGS:
        text = (docker_files.ROOT / name).read_text()
        service = name.split("-")[-1][:-6]
        # A worker is healthy when it is connected to the scheduler.
        sign = f":{WORKER_API_PORT:04X} 01 " if service == "worker" else f":{HEALTH_PORT}/status"
        assert sign in str(services[service]["healthcheck"])
        for host in ("cas", "scheduler"):
            assert f"//{host}:" not in text or host in services


def test_compose_publishes_on_loopback_only_and_isolates_workers() -> None:
    compose = yaml.safe_load((docker_files.ROOT / docker_files.COMPOSE_FILE).read_text())
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        # The daemon's limit may be lower; its logs have none.
        assert "ulimits" not in service and service["logging"]["options"].keys() == {"max-size", "max-file"}
    worker = compose["services"]["worker"]
    # What docker/run_action.py needs: it refuses to start with less.
    assert worker["user"] == "0:0" and set(worker["cap_add"]) == set(run_action_capabilities())
    assert "no-new-privileges:true" in worker["security_opt"]
    assert f"seccomp:./{SECCOMP.name}" in worker["security_opt"] and SECCOMP.is_file()
    assert worker["networks"] == ["workers"] and compose["networks"]["workers"]["internal"]
    # A named volume would be one store for all workers that --scale starts.
    assert "/var/lib/nativelink" in worker["volumes"] and not set(compose["volumes"]) & set(str(worker["volumes"]))
    assert "\nVOLUME" not in (docker_files.ROOT / docker_files.DOCKERFILE).read_text()
    assert worker["deploy"]["resources"]["limits"]["cpus"] == str(read_platform().cpu_count)
