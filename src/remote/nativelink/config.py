"""NativeLink's configs: a CAS with an action cache, a scheduler and a worker, each in its own process.

Two dialects, checked against NativeLink's source and the examples it ships (deployment-examples/docker-compose). v0.6.0
and v0.7.0 load and serve the first one, v1.6.6 the second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from src.remote.config.execution_platform import ExecutionPlatform

# Ports inside the containers; the host names are those of compose.yaml's services.
CAS_PORT = 50051
SCHEDULER_PORT = 50052
WORKER_API_PORT = 50061
HEALTH_PORT = 50080
_CAS_ADDRESS = f"grpc://cas:{CAS_PORT}"
_WORKER_API_ADDRESS = f"grpc://scheduler:{WORKER_API_PORT}"

# One volume, so that files can be hard-linked from the store into an action's folder.
_ROOT = "/var/lib/nativelink"

Config = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The differences between versions of NativeLink."""

    name: str
    # Until v0.6.1 and in v0.6.3 services are maps keyed by instance name, in v0.6.2 lists; v0.7.0 and later take both.
    services_are_lists: bool
    time_limit_key: str
    worker_extras: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def services(self, name: str, settings: Config | None) -> Config:
        """Returns one service of the unnamed instance; None enables it without settings."""
        if settings is None:
            return {name: [] if self.services_are_lists else {}}
        return {name: [{"instance_name": "", **settings}] if self.services_are_lists else {"": settings}}

    def bytestream(self, store: str) -> Config:
        """Returns the service that transfers large blobs, which has another form in the older dialect."""
        if self.services_are_lists:
            return self.services("bytestream", {"cas_store": store})
        return {"bytestream": {"cas_stores": {"": store}}}


DIALECTS = (
    # Apache-2.0, v0.7.0 being the newest release of that licence. Later versions warn that this form is deprecated.
    Dialect(name="nativelink-v0.6", services_are_lists=False, time_limit_key="max_action_timeout"),
    # FSL-1.1-Apache-2.0. Names in _s exist from v1.6.0 on.
    Dialect(
        name="nativelink-v1.6",
        services_are_lists=True,
        time_limit_key="max_action_timeout_s",
        # Long enough to upload a trained model and its checkpoint.
        worker_extras=MappingProxyType({"max_upload_timeout_s": 1800, "max_inflight_tasks": 1}),
    ),
)


def service_configs(platform: ExecutionPlatform, dialect: Dialect) -> dict[str, Config]:
    """Returns the config of each service of compose.yaml, by the service's name."""
    return {"cas": cas_config(dialect), "scheduler": scheduler_config(platform, dialect)} | {
        "worker": worker_config(platform, dialect)
    }


def cas_config(dialect: Dialect) -> Config:
    """Returns the config of the CAS and action cache."""
    cas = {"verify": {"verify_size": True, "verify_hash": True, "backend": _filesystem("cas", gigabytes=20)}}
    # An entry whose files were evicted would break the build that hits it.
    cas_reference = {"ref_store": {"name": "CAS"}}
    action_cache = {
        "completeness_checking": {"backend": _filesystem("action-cache", gigabytes=1), "cas_store": cas_reference}
    }
    services = (
        dialect.services("cas", {"cas_store": "CAS"})
        | dialect.services("ac", {"ac_store": "ACTION_CACHE"})
        | dialect.services("capabilities", None)
        | dialect.bytestream("CAS")
    )
    return {
        "stores": [{"name": "CAS", **cas}, {"name": "ACTION_CACHE", **action_cache}],
        "servers": [_server(CAS_PORT, services), _health()],
        "global": _global(),
    }


def scheduler_config(platform: ExecutionPlatform, dialect: Dialect) -> Config:
    """Returns the config of the scheduler; its worker API has its own port, which clients cannot reach."""
    matching = {name: "minimum" if name == "cpu_count" else "exact" for name in platform.exec_properties}
    simple = {
        "supported_platform_properties": matching,
        "worker_timeout_s": 30,
        "client_action_timeout_s": 120,
        "max_job_retries": 1,
    }
    services = (
        dialect.services("ac", {"ac_store": "ACTION_CACHE"})
        | dialect.services("execution", {"cas_store": "CAS", "scheduler": "SCHEDULER"})
        | dialect.services("capabilities", {"remote_execution": {"scheduler": "SCHEDULER"}})
    )
    return {
        "stores": [_grpc_store("CAS", kind="cas"), _grpc_store("ACTION_CACHE", kind="ac")],
        "schedulers": [{"name": "SCHEDULER", "simple": simple}],
        "servers": [
            _server(SCHEDULER_PORT, services),
            _server(WORKER_API_PORT, {"worker_api": {"scheduler": "SCHEDULER"}}),
            _health(),
        ],
        "global": _global(),
    }


def worker_config(platform: ExecutionPlatform, dialect: Dialect) -> Config:
    """Returns the config of a worker, which offers exactly the platform's properties."""
    fast_slow = {"fast": _filesystem("store", gigabytes=10), "slow": {"ref_store": {"name": "CAS"}}}
    offered = {name: {"values": [value]} for name, value in platform.exec_properties.items()}
    local = {
        "worker_api_endpoint": {"uri": _WORKER_API_ADDRESS},
        "cas_fast_slow_store": "WORKER_STORE",
        "upload_action_result": {"ac_store": "ACTION_CACHE", "upload_ac_results_strategy": "success_only"},
        "work_directory": f"{_ROOT}/work",
        dialect.time_limit_key: platform.action_time_limit_seconds,
        **dialect.worker_extras,
        # It isolates actions and keeps their time limit, since NativeLink's would end one process and lose the output.
        "entrypoint": "/opt/nativelink/run_action",
        "timeout_handled_externally": True,
        # An action's environment holds HOME and its own variables; the others are for the entrypoint.
        "additional_environment": {
            "FINETUNE_ACTION_FOLDER": "action_directory",
            "FINETUNE_ACTION_TIME_LIMIT_MS": "timeout_millis",
            "FINETUNE_ACTION_REPORT": "side_channel_file",
            "HOME": "action_directory",
        },
        "platform_properties": offered,
    }
    return {
        "stores": [
            _grpc_store("CAS", kind="cas"),
            _grpc_store("ACTION_CACHE", kind="ac"),
            {"name": "WORKER_STORE", "fast_slow": fast_slow},
        ],
        "workers": [{"local": local}],
        "servers": [_health()],
        "global": _global(),
    }


def _filesystem(folder: str, *, gigabytes: int) -> Config:
    return {
        "filesystem": {
            "content_path": f"{_ROOT}/{folder}/content",
            "temp_path": f"{_ROOT}/{folder}/temp",
            "eviction_policy": {"max_bytes": gigabytes * 10**9},
        }
    }


def _grpc_store(name: str, *, kind: str) -> Config:
    return {"name": name, "grpc": {"instance_name": "", "endpoints": [{"address": _CAS_ADDRESS}], "store_type": kind}}


def _server(port: int, services: Config, *, host: str = "0.0.0.0") -> Config:
    return {"listener": {"http": {"socket_address": f"{host}:{port}"}}, "services": services}


def _health() -> Config:
    # GET /status, for compose's health check inside the container.
    return _server(HEALTH_PORT, {"health": {}}, host="127.0.0.1")


def _global() -> Config:
    return {"max_open_files": 24576, "default_digest_hash_function": "sha256"}
