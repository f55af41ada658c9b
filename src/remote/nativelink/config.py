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

# Ports inside the containers; the host names are those of the services in compose.yaml and in kubernetes/.
CAS_PORT = 50051
SCHEDULER_PORT = 50052
# Where workers and the scheduler reach the CAS; only there may results be written to the action cache.
CAS_WORKERS_PORT = 50053
WORKER_API_PORT = 50061
HEALTH_PORT = 50080

# Of each service: its certificate.pem, key.pem and ca.pem, and the clients_ca.pem of docker/make_certificates.sh.
CERTIFICATES = "/run/secrets/nativelink"
# Outlasts a restart of the CAS. A store away for 40 s was survived with these.
_RETRY: Mapping[str, float] = MappingProxyType({"max_retries": 8, "delay": 0.5, "jitter": 0.5})

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


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the services run.

    Attributes:
        encrypted: TLS everywhere, and certificates for clients, workers and servers.
        health_host: the address that answers GET /status.
        in_bucket: CAS and action cache are kept in an S3 bucket, named by the environment.
    """

    encrypted: bool = False
    health_host: str = "127.0.0.1"
    in_bucket: bool = False


COMPOSE = Surroundings()
COMPOSE_TLS = Surroundings(encrypted=True)
# The kubelet asks for the health from outside of the container.
KUBERNETES = Surroundings(encrypted=True, health_host="0.0.0.0")
KUBERNETES_S3 = Surroundings(encrypted=True, health_host="0.0.0.0", in_bucket=True)


def service_configs(
    platform: ExecutionPlatform, dialect: Dialect, surroundings: Surroundings = COMPOSE
) -> dict[str, Config]:
    """Returns the config of each service, by the service's name."""
    return {
        "cas": cas_config(dialect, surroundings),
        "scheduler": scheduler_config(platform, dialect, surroundings),
        "worker": worker_config(platform, dialect, surroundings),
    }


def cas_config(dialect: Dialect, surroundings: Surroundings = COMPOSE) -> Config:
    """Returns the config of the CAS and action cache, whose results only the workers' port takes."""
    cas_files, results = _filesystem("cas", gigabytes=20), _filesystem("action-cache", gigabytes=1)
    if surroundings.in_bucket:
        cas_files, results = _over_bucket(cas_files, "cas/"), _over_bucket(results, "action-cache/")
    cas = {"verify": {"verify_size": True, "verify_hash": True, "backend": cas_files}}
    # An entry whose files were evicted would break the build that hits it.
    cas_reference = {"ref_store": {"name": "CAS"}}
    action_cache = {"completeness_checking": {"backend": results, "cas_store": cas_reference}}
    for_all = dialect.services("cas", {"cas_store": "CAS"}) | dialect.bytestream("CAS")
    for_clients = (
        for_all
        | dialect.services("ac", {"ac_store": "ACTION_CACHE", "read_only": True})
        | dialect.services("capabilities", None)
    )
    for_workers = for_all | dialect.services("ac", {"ac_store": "ACTION_CACHE"})
    return {
        "stores": [{"name": "CAS", **cas}, {"name": "ACTION_CACHE", **action_cache}],
        "servers": [
            _server(CAS_PORT, for_clients, tls=_server_tls(surroundings, callers="clients_ca")),
            _server(CAS_WORKERS_PORT, for_workers, tls=_server_tls(surroundings, callers="ca")),
            _health(surroundings),
        ],
        "global": _global(),
    }


def scheduler_config(platform: ExecutionPlatform, dialect: Dialect, surroundings: Surroundings = COMPOSE) -> Config:
    """Returns the config of the scheduler; its worker API has its own port, which clients cannot reach."""
    matching = {name: "minimum" if name == "cpu_count" else "exact" for name in platform.exec_properties}
    simple = {
        "supported_platform_properties": matching,
        "worker_timeout_s": 30,
        "client_action_timeout_s": 120,
        # With 1, two lost workers made a false TIMEOUT.
        "max_job_retries": 3,
    }
    services = (
        dialect.services("ac", {"ac_store": "ACTION_CACHE", "read_only": True})
        | dialect.services("execution", {"cas_store": "CAS", "scheduler": "SCHEDULER"})
        | dialect.services("capabilities", {"remote_execution": {"scheduler": "SCHEDULER"}})
    )
    return {
        "stores": _grpc_stores(surroundings),
        "schedulers": [{"name": "SCHEDULER", "simple": simple}],
        "servers": [
            _server(SCHEDULER_PORT, services, tls=_server_tls(surroundings, callers="clients_ca")),
            _server(
                WORKER_API_PORT,
                {"worker_api": {"scheduler": "SCHEDULER"}},
                tls=_server_tls(surroundings, callers="ca"),
            ),
            _health(surroundings),
        ],
        "global": _global(),
    }


def worker_config(platform: ExecutionPlatform, dialect: Dialect, surroundings: Surroundings = COMPOSE) -> Config:
    """Returns the config of a worker, which offers exactly the platform's properties."""
    fast_slow = {"fast": _filesystem("store", gigabytes=10), "slow": {"ref_store": {"name": "CAS"}}}
    offered = {name: {"values": [value]} for name, value in platform.exec_properties.items()}
    local = {
        "worker_api_endpoint": _endpoint("uri", "scheduler", WORKER_API_PORT, surroundings),
        "cas_fast_slow_store": "WORKER_STORE",
        "upload_action_result": {"ac_store": "ACTION_CACHE", "upload_ac_results_strategy": "success_only"},
        "work_directory": f"{_ROOT}/work",
        # A worker that is to stop takes no further action.
        "experimental_precondition_script": "/opt/nativelink/accept.sh",
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
            *_grpc_stores(surroundings),
            {"name": "WORKER_STORE", "fast_slow": fast_slow},
        ],
        "workers": [{"local": local}],
        "servers": [_health(surroundings)],
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


def _over_bucket(files: Config, prefix: str) -> Config:
    bucket = {
        "provider": "aws",
        "region": "${NATIVELINK_REGION}",
        "bucket": "${NATIVELINK_BUCKET}",
        "key_prefix": prefix,
        "retry": dict(_RETRY),
    }
    return {"fast_slow": {"fast": files, "slow": {"experimental_cloud_object_store": bucket}}}


def _grpc_stores(surroundings: Surroundings) -> list[Config]:
    endpoint = _endpoint("address", "cas", CAS_WORKERS_PORT, surroundings)
    store = {"instance_name": "", "endpoints": [endpoint], "retry": dict(_RETRY)}
    kinds = {"CAS": "cas", "ACTION_CACHE": "ac"}
    return [{"name": name, "grpc": {**store, "store_type": kind}} for name, kind in kinds.items()]


def _endpoint(key: str, host: str, port: int, surroundings: Surroundings) -> Config:
    if not surroundings.encrypted:
        return {key: f"grpc://{host}:{port}"}
    return {key: f"grpcs://{host}:{port}", "tls_config": {"ca_file": f"{CERTIFICATES}/ca.pem", **_own_certificate()}}


def _server_tls(surroundings: Surroundings, *, callers: str) -> Config:
    """Returns a listener's TLS; `callers` is the authority that signed the certificates it accepts."""
    if not surroundings.encrypted:
        return {}
    return {"tls": {**_own_certificate(), "client_ca_file": f"{CERTIFICATES}/{callers}.pem"}}


def _own_certificate() -> Config:
    return {"cert_file": f"{CERTIFICATES}/certificate.pem", "key_file": f"{CERTIFICATES}/key.pem"}


def _server(port: int, services: Config, *, host: str = "0.0.0.0", tls: Config | None = None) -> Config:
    listener = {"socket_address": f"{host}:{port}", **(tls or {})}
    return {"listener": {"http": listener}, "services": services}


def _health(surroundings: Surroundings) -> Config:
    # GET /status, for health checks: the process answers. It says nothing of its connections.
    return _server(HEALTH_PORT, {"health": {}}, host=surroundings.health_host)


def _global() -> Config:
    return {"max_open_files": 24576, "default_digest_hash_function": "sha256"}
