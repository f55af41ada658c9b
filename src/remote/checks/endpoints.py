"""Doctor's checks of the servers: whether they answer, accept the key and execute actions."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

from src.remote.checks.findings import Finding
from src.remote.config.bazelrc import BazelConfig
from src.remote.config.endpoints import KEY_HEADER
from src.remote.reapi.client import Endpoint, RemoteClient, RemoteError

# Doctor leaves out the checks of workers after this.
UNREACHABLE = "is not reachable"
_SHA256 = 1
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_ADMITTED = {True: "the key is accepted", False: "no key is required"}
_START_HERE = "start the server (on this machine: bazel run //src/remote:executor) or correct the address"
_START_RELAY = "start it in a second terminal: bazel run //src/remote:relay"


def check_servers(config: BazelConfig, *, by_relay: bool = False, seconds: float) -> Iterator[Finding]:
    """Connects to each server of a config, or to the relay in front of it."""
    services = {"remote_executor": "executor", "remote_cache": "cache", "bes_backend": "build event service"}
    for flag, service in services.items():
        endpoint = config.endpoint(flag)
        if endpoint is not None:
            name = f"relay to the {service}" if by_relay else service
            remedy = _START_RELAY if by_relay else _START_HERE
            yield check_transport(endpoint, service=name, refused_remedy=remedy, seconds=seconds)


def check_transport(endpoint: Endpoint, *, service: str, refused_remedy: str, seconds: float) -> Finding:
    """Connects, with TLS if the address asks for it, and verifies the certificate."""
    host, _, port = endpoint.address.rpartition(":")
    check = f"{service} reached"

    def unreachable(cause: str, remedy: str) -> Finding:
        return Finding.error(check, f"{endpoint.url} {UNREACHABLE}", cause=cause, remedy=remedy)

    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds) as connection:
            if endpoint.is_encrypted:
                _shake_hands(connection, endpoint, host=host.strip("[]"))
    except ssl.SSLCertVerificationError as error:
        return unreachable(
            f"its certificate is not trusted: {error.verify_message}",
            "set its CA as NATIVELINK_TLS_CERTIFICATE in .env and run //src/remote:configure",
        )
    except ssl.SSLError as error:
        return unreachable(
            f"it does not speak TLS ({error.reason})", "use grpc:// if the server has no TLS, or its TLS port"
        )
    except socket.gaierror:
        return unreachable(
            "unknown host", "check the address for a typo, or set up .env and run //src/remote:configure"
        )
    except TimeoutError:
        return unreachable(f"no answer within {seconds:g} seconds", "check the address, and for a firewall or a proxy")
    except OSError as error:
        return unreachable(str(error.strerror or error), refused_remedy)
    if not endpoint.is_encrypted and host not in _LOOPBACK:
        return Finding(
            check=check,
            level="error" if KEY_HEADER in endpoint.headers else "warning",
            symptom=f"{endpoint.url} is not encrypted",
            cause="anyone on the network path can read sources, models and the key, and change results",
            remedy="use a grpcs:// address",
        )
    return Finding.ok(check, endpoint.url)


def _shake_hands(connection: socket.socket, endpoint: Endpoint, *, host: str) -> None:
    context = ssl.create_default_context(cadata=endpoint.certificate.decode() if endpoint.certificate else None)
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(connection, server_hostname=host):
        pass


def check_capabilities(
    client: RemoteClient, config: BazelConfig, *, servers: BazelConfig, seconds: float
) -> Iterator[Finding]:
    """Asks both servers for their capabilities; the answer shows whether the key is right.

    Args:
        client: calls the endpoints of `config`.
        config: of Bazel's calls.
        servers: of the servers themselves; another one where Bazel calls them through the relay.
        seconds: time for a call.
    """
    for of_cache, flag in ((False, "remote_executor"), (True, "remote_cache")):
        endpoint = config.endpoint(flag)
        if endpoint is None:
            continue
        service = flag.removeprefix("remote_")
        try:
            capabilities = client.capabilities(of_cache=of_cache, seconds=seconds)
        except RemoteError as error:
            behind = servers.endpoint(flag) or endpoint
            if servers is not config and _answers(behind, seconds=seconds):
                yield _outdated_relay(error, service=service)
            else:
                yield _refused(error, behind, service=service, has_key=servers.has_key)
            continue
        yield Finding.ok(f"{service} key", _ADMITTED[servers.has_key])
        digests = list(capabilities.cache_capabilities.digest_functions)
        if digests and _SHA256 not in digests:
            cause, remedy = f"it supports only the digest functions {digests}", "set the server to SHA256, as Bazel is"
            yield Finding.error(f"{service} digests", "no SHA256", cause=cause, remedy=remedy)
        if not of_cache:
            yield _execution(capabilities)


def _answers(endpoint: Endpoint, *, seconds: float) -> bool:
    client = RemoteClient(endpoint)
    try:
        client.capabilities(seconds=seconds)
    except RemoteError:
        return False
    finally:
        client.close()
    return True


def _outdated_relay(error: RemoteError, *, service: str) -> Finding:
    return Finding.error(
        f"{service} answers",
        f"the {service} answers, but not through the relay: {error}",
        cause="the relay reads addresses, key and certificates when it starts, and they have changed since: an "
        "executor with --tls makes a new certificate at each start",
        remedy="stop the relay with Ctrl-C and start it again: bazel run //src/remote:relay",
    )


def _refused(error: RemoteError, endpoint: Endpoint, *, service: str, has_key: bool) -> Finding:
    if error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return Finding.error(
            f"{service} key",
            f"the server refuses the call: {error}",
            cause="the key is wrong or has expired" if has_key else "the server requires a key, and none is set",
            remedy="put the right NATIVELINK_API_KEY into .env and run bazel run //src/remote:configure",
        )
    symptom = f"{endpoint.url} does not answer as a remote execution server: {error}"
    if endpoint.is_encrypted and error.code == "UNAVAILABLE":
        # The handshake of check_transport passed. With TLS 1.3 a server refuses a client's certificate after it.
        return Finding.error(
            f"{service} answers",
            symptom,
            cause="it ends the connection after the TLS handshake: most likely it refuses the client certificate, "
            "which is missing, unknown to it, or not of X.509 version 3 with extendedKeyUsage clientAuth",
            remedy="set NATIVELINK_TLS_CLIENT_CERTIFICATE and NATIVELINK_TLS_CLIENT_KEY in .env to a pair that the "
            "server trusts, run bazel run //src/remote:configure, and look at the server's log",
        )
    return Finding.error(
        f"{service} answers",
        symptom,
        cause="another program listens there, or the server has a problem",
        remedy="look at the server's log, and check that address and port are those of the API",
    )


def _execution(capabilities: Any) -> Finding:
    if not capabilities.execution_capabilities.exec_enabled:
        return Finding.error(
            "executes",
            "the server does not execute actions",
            cause="it is only a cache, or its scheduler is not set up",
            remedy="set NATIVELINK_EXECUTOR in .env to the scheduler's address",
        )
    low, high = capabilities.low_api_version, capabilities.high_api_version
    return Finding.ok("executes", f"API {low.major}.{low.minor} to {high.major}.{high.minor}")
