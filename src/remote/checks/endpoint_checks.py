"""Doctor's checks of the servers: do they answer, is the key right, what do they say of themselves."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from src.remote.checks.findings import Finding
from src.remote.config.bazel_config import BazelConfig
from src.remote.config.endpoints import KEY_HEADER
from src.remote.reapi.client import Endpoint, RemoteClient, RemoteError

_SHA256 = 1
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


_ADMITTED = {True: "the key is accepted", False: "no key is asked for"}
_START_HERE = "start the server (on this machine: bazel run //src/remote:executor) or correct the address"
_START_RELAY = "start it in a terminal of its own: bazel run //src/remote:relay"


def check_servers(config: BazelConfig, *, by_relay: bool = False, seconds: float) -> Iterator[Finding]:
    """Opens a connection to each server of a config, or to the relay that stands before it."""
    services = {"remote_executor": "executor", "remote_cache": "cache", "bes_backend": "build event service"}
    for flag, service in services.items():
        endpoint = config.endpoint(flag)
        if endpoint is not None:
            name = f"relay to the {service}" if by_relay else service
            remedy = _START_RELAY if by_relay else _START_HERE
            yield check_transport(endpoint, service=name, refused_remedy=remedy, seconds=seconds)


def check_transport(endpoint: Endpoint, *, service: str, refused_remedy: str, seconds: float) -> Finding:
    """Opens a connection, with TLS where the address asks for it, and verifies the certificate."""
    host, _, port = endpoint.address.rpartition(":")
    check = f"{service} reached"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds) as connection:
            if endpoint.is_encrypted:
                _shake_hands(connection, endpoint, host=host.strip("[]"))
    except ssl.SSLCertVerificationError as error:
        remedy = "name its CA with NATIVELINK_TLS_CERTIFICATE in .env and run //src/remote:configure"
        return _broken(check, endpoint, f"its certificate is not trusted: {error.verify_message}", remedy)
    except ssl.SSLError as error:
        remedy = "write grpc:// if that server has no TLS, or the port that has it"
        return _broken(check, endpoint, f"no TLS is spoken there ({error.reason})", remedy)
    except socket.gaierror:
        return _broken(
            check, endpoint, "no such host is known", "look for a mistyped address, or set up .env: configure"
        )
    except TimeoutError:
        remedy = "look whether a firewall or a proxy is between, and whether the address is right"
        return _broken(check, endpoint, f"no answer within {seconds:g} seconds", remedy)
    except OSError as error:
        return _broken(check, endpoint, str(error.strerror or error), refused_remedy)
    if not endpoint.is_encrypted and host not in _LOOPBACK:
        return Finding(
            check=check,
            level="error" if KEY_HEADER in endpoint.headers else "warning",
            symptom=f"{endpoint.url} is not encrypted",
            cause="everyone on the way can read sources, models and the key, and change what comes back",
            remedy="use a grpcs:// address",
        )
    return Finding(check=check, level="ok", symptom=endpoint.url)


def _shake_hands(connection: socket.socket, endpoint: Endpoint, *, host: str) -> None:
    context = ssl.create_default_context(cadata=endpoint.certificate.decode() if endpoint.certificate else None)
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(connection, server_hostname=host):
        pass


def _broken(check: str, endpoint: Endpoint, cause: str, remedy: str) -> Finding:
    return Finding(check=check, level="error", symptom=f"{endpoint.url} is not reached", cause=cause, remedy=remedy)


def check_capabilities(
    client: RemoteClient, config: BazelConfig, *, has_key: bool, seconds: float
) -> Iterator[Finding]:
    """Asks both servers what they are; the answer tells whether the key is right."""
    for of_cache, flag in ((False, "remote_executor"), (True, "remote_cache")):
        endpoint = config.endpoint(flag)
        if endpoint is None:
            continue
        service = flag.removeprefix("remote_")
        try:
            said = client.capabilities(of_cache=of_cache, seconds=seconds)
        except RemoteError as error:
            yield _refused(error, endpoint, service=service, has_key=has_key)
            continue
        yield Finding(check=f"{service} key", level="ok", symptom=_ADMITTED[has_key])
        digests = list(said.cache_capabilities.digest_functions)
        if digests and _SHA256 not in digests:
            cause, remedy = f"it knows the digest functions {digests} only", "set the server to SHA256, as Bazel's are"
            yield Finding(check=f"{service} digests", level="error", symptom="no SHA256", cause=cause, remedy=remedy)
        if not of_cache:
            yield _execution(said)


def _refused(error: RemoteError, endpoint: Endpoint, *, service: str, has_key: bool) -> Finding:
    if error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return Finding(
            check=f"{service} key",
            level="error",
            symptom=f"the server refuses the call: {error}",
            cause="the key is wrong or no longer valid" if has_key else "the server asks for a key, and none is set",
            remedy="put the right NATIVELINK_API_KEY into .env and run bazel run //src/remote:configure",
        )
    return Finding(
        check=f"{service} answers",
        level="error",
        symptom=f"{endpoint.url} does not answer as a remote executor: {error}",
        cause="something else listens there, or the server is not well",
        remedy="look at the server's log, and whether address and port are those of the API",
    )


def _execution(said: object) -> Finding:
    capabilities, low, high = (
        getattr(said, name) for name in ("execution_capabilities", "low_api_version", "high_api_version")
    )
    if not capabilities.exec_enabled:
        return Finding(
            check="executes",
            level="error",
            symptom="the server says that it executes nothing",
            cause="it is a cache alone, or its scheduler is not set up",
            remedy="name the scheduler's address: NATIVELINK_EXECUTOR in .env",
        )
    return Finding(check="executes", level="ok", symptom=f"API {low.major}.{low.minor} to {high.major}.{high.minor}")
