"""The manifests of docker/kubernetes agree with NativeLink's configs, and grant no more than a pod needs.

tools/check renders them and validates them against Kubernetes' schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.remote.nativelink.config import CERTIFICATES, WORKER_API_PORT

FOLDER = Path(__file__).parents[3] / "docker" / "kubernetes"
SERVICES = ("cas", "scheduler", "worker")


def resources(folder: str, kind: str = "") -> Iterator[dict[str, Any]]:
    kustomization = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        for resource in yaml.safe_load_all((FOLDER / folder / name).read_text()):
            if not kind or resource["kind"] == kind:
                yield resource


def pod_of(service: str) -> dict[str, Any]:
    (pod,) = [
        resource["spec"]["template"]["spec"]
        for resource in resources("base")
        if "template" in resource.get("spec", {}) and resource["metadata"]["name"] == service
    ]
    return pod


def ports_of(service: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in pod_of(service)["containers"][0]["ports"]}


@pytest.mark.parametrize("service", SERVICES)
def test_the_ports_of_a_pod_are_those_of_its_config(service: str) -> None:
    config = json.loads((FOLDER / "base" / f"{service}.json5").read_text().partition("\n")[2])
    addresses = [server["listener"]["http"]["socket_address"] for server in config["servers"]]
    # The kubelet, other pods and port-forward all come from outside of the container.
    assert sorted(addresses) == sorted(f"0.0.0.0:{port}" for port in ports_of(service).values())


def test_a_service_leads_to_the_ports_of_the_same_name_and_number() -> None:
    for service in resources("base", "Service"):
        ports = ports_of(service["metadata"]["name"])
        assert {each["name"]: each["port"] for each in service["spec"]["ports"]} | {"health": 50080} == ports


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_meets_the_restricted_standard_and_has_limits_and_probes(service: str) -> None:
    pod = pod_of(service)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert container["livenessProbe"] and container["readinessProbe"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_mounts_its_own_config_and_certificates_where_the_config_expects_them(service: str) -> None:
    pod = pod_of(service)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert container["args"] == [f"{mounts['config']}/{service}.json5"] and mounts["certificates"] == CERTIFICATES
    assert volumes["certificates"]["secret"]["secretName"] == f"{service}-certificates"
    generated = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())["configMapGenerator"]
    assert {"name": volumes["config"]["configMap"]["name"], "files": [f"{service}.json5"]} in generated


def test_a_worker_is_ready_when_it_is_connected_to_the_scheduler_and_drains_before_it_stops() -> None:
    pod = pod_of("worker")
    (container,) = pod["containers"]
    assert f":{WORKER_API_PORT:04X} 01 " in container["readinessProbe"]["exec"]["command"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/opt/nativelink/drain.sh"]


def test_no_traffic_passes_that_no_policy_allows_and_workers_ports_are_closed_to_clients() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in resources("base", "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "ingress" not in policies["worker"]
    for service in ("cas", "scheduler"):
        for rule in policies[service]["ingress"]:
            (port,) = rule["ports"]
            assert ("from" in rule) == (port["port"] == "workers")
