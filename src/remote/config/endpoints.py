"""The servers of remote execution: the NATIVELINK_* settings of .env or the environment, validated.

No message contains the value of NATIVELINK_API_KEY.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean

KEY_HEADER = "x-nativelink-api-key"
# user.bazelrc holds the key after this prefix: the credential helper or the relay reads it, and Bazel does not.
KEY_COMMENT = f"# {KEY_HEADER}:"
# The config of user.bazelrc that --config=remote of .bazelrc refers to. Without it Bazel says: Config value
# 'bazel-run-src-remote-configure' is not defined in any .rc file.
SERVERS = "bazel-run-src-remote-configure"
# The config of the servers behind //src/remote:relay; Bazel itself never uses it.
UPSTREAM = "remote-upstream"
# Read by configure.
SETTINGS = (
    "NATIVELINK_ACCOUNT",
    "NATIVELINK_API_KEY",
    "NATIVELINK_URL",
    "NATIVELINK_CACHE",
    "NATIVELINK_EXECUTOR",
    "NATIVELINK_BES",
    "NATIVELINK_TLS_CERTIFICATE",
    "NATIVELINK_TLS_CLIENT_CERTIFICATE",
    "NATIVELINK_TLS_CLIENT_KEY",
)
# Read by docker/compose.yaml.
_COMPOSE_SETTINGS = ("NATIVELINK_IMAGE", "NATIVELINK_CONFIG", "NATIVELINK_LOG")

# From NativeLink Cloud's Quickstart and TraceMachina/nativelink-action (src/main.ts). The scheduler's address differs
# between deployments: NATIVELINK_EXECUTOR replaces it.
_CLOUD = "grpcs://{service}-{account}.build-faster.nativelink.net"
_CLOUD_RESULTS = "https://app.nativelink.com/a/{account}/build"

_DISABLED = "none"
_ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
# No character that would end a line, a word or a string in a bazelrc or in JSON.
_API_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")
_ENDPOINT = re.compile(r"(grpcs?)://(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")
_RESULTS_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_FILE = re.compile(r"[^\"'\\\n\r]+")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The servers and credentials; an empty field is not set.

    `cache`, `executor` and `bes` are grpc:// or grpcs:// addresses. `results_url` is the web page of build results.
    """

    cache: str = ""
    executor: str = ""
    bes: str = ""
    results_url: str = ""
    api_key: str = ""
    tls_certificate: str = ""
    tls_client_certificate: str = ""
    tls_client_key: str = ""

    def __repr__(self) -> str:
        # The dataclass's own repr would show the key in logs.
        return f"Endpoints(cache={self.cache!r}, executor={self.executor!r}, bes={self.bes!r})"

    def addresses(self) -> list[str]:
        """Returns the distinct addresses that are set."""
        return [address for address in dict.fromkeys((self.cache, self.executor, self.bes)) if address]


def host_of(address: str) -> str:
    """Returns the host of an address, without the port."""
    match = _ENDPOINT.fullmatch(address)
    if match is None:
        raise ValueError(f"{address} is not an endpoint")
    return match.group(2)


def read_endpoints(settings: Mapping[str, str], *, folder: Path) -> Endpoints:
    """Validates settings and fills in NativeLink Cloud's addresses.

    Args:
        settings: NATIVELINK_* names to values; an empty value counts as not set.
        folder: base of relative certificate paths.

    Raises:
        RequestError: something is missing, malformed, or would send the key unencrypted.
    """
    values = {name: value.strip() for name, value in settings.items() if value.strip()}
    for name in values:
        _check_name(name)
    account, api_key = values.get("NATIVELINK_ACCOUNT", ""), values.get("NATIVELINK_API_KEY", "")
    _check_account(account, api_key=api_key)
    endpoints = Endpoints(
        cache=_address("CACHE", "cas", values),
        executor=_address("EXECUTOR", "scheduler", values),
        bes=_address("BES", "bes", values),
        results_url=_results_url(values),
        api_key=api_key,
        tls_certificate=_file("NATIVELINK_TLS_CERTIFICATE", values, folder),
        tls_client_certificate=_file("NATIVELINK_TLS_CLIENT_CERTIFICATE", values, folder),
        tls_client_key=_file("NATIVELINK_TLS_CLIENT_KEY", values, folder),
    )
    _check_together(endpoints, values)
    return endpoints


def _check_name(name: str) -> None:
    if name not in SETTINGS and name not in _COMPOSE_SETTINGS:
        raise RequestError(f"unknown setting {name}{did_you_mean(name, SETTINGS)}: see .env.example")


def _check_account(account: str, *, api_key: str) -> None:
    if account and not _ACCOUNT.fullmatch(account):
        raise RequestError(
            "NATIVELINK_ACCOUNT must be the account name only, as in cas-ACCOUNT.build-faster.nativelink.net: "
            f"lower-case letters, digits and dashes, not {account!r}"
        )
    if account and not api_key:
        raise RequestError("NATIVELINK_ACCOUNT needs NATIVELINK_API_KEY: copy it from NativeLink's Quickstart page")
    if f"{KEY_HEADER}=" in api_key:
        raise RequestError(f"NATIVELINK_API_KEY must be the key only: what follows {KEY_HEADER}=")
    if api_key and not _API_KEY.fullmatch(api_key):
        raise RequestError(
            "NATIVELINK_API_KEY is malformed (not shown): a key is 8 or more letters, digits and . _ ~ + / = -"
        )


def _address(setting: str, service: str, values: Mapping[str, str]) -> str:
    value, account = values.get(f"NATIVELINK_{setting}", ""), values.get("NATIVELINK_ACCOUNT")
    if value == _DISABLED:
        return ""
    if value and not _ENDPOINT.fullmatch(value):
        raise RequestError(f"NATIVELINK_{setting} must be grpcs://HOST:PORT, grpc://HOST:PORT or none")
    if value or not account:
        return value
    return _CLOUD.format(service=service, account=account) + (":443" if service == "scheduler" else "")


def _results_url(values: Mapping[str, str]) -> str:
    url, account = values.get("NATIVELINK_URL", ""), values.get("NATIVELINK_ACCOUNT")
    if url and not _RESULTS_URL.fullmatch(url):
        raise RequestError(
            "NATIVELINK_URL must be the https:// page of build results, as in --bes_results_url: "
            "endpoints go into NATIVELINK_CACHE, NATIVELINK_EXECUTOR and NATIVELINK_BES"
        )
    if url or not account:
        return url
    # The account in the page's address lacks the generated suffix of the one in the endpoints.
    return _CLOUD_RESULTS.format(account=account.rpartition("-")[0] or account)


def _file(name: str, values: Mapping[str, str], folder: Path) -> str:
    value = values.get(name)
    if value is None:
        return ""
    path = folder / Path(value).expanduser()
    if not path.is_file():
        raise RequestError(f"{name}: no such file: {path}")
    if not _FILE.fullmatch(str(path)):
        raise RequestError(f"{name}: a quote or backslash in {path} cannot be written to a bazelrc: rename the file")
    return str(path)


def _check_together(endpoints: Endpoints, values: Mapping[str, str]) -> None:
    addresses = endpoints.addresses()
    if not endpoints.cache and not endpoints.executor:
        raise RequestError(
            "no server is configured: set NATIVELINK_ACCOUNT and NATIVELINK_API_KEY, or NATIVELINK_EXECUTOR, "
            "in .env (cp .env.example .env) or in the environment"
        )
    if not endpoints.executor and values.get("NATIVELINK_EXECUTOR") != _DISABLED:
        raise RequestError("NATIVELINK_EXECUTOR is missing: set it to an address, or to none for a remote cache only")
    if bool(endpoints.tls_client_certificate) != bool(endpoints.tls_client_key):
        raise RequestError("NATIVELINK_TLS_CLIENT_CERTIFICATE and NATIVELINK_TLS_CLIENT_KEY must be set together")
    plain = [address for address in addresses if not address.startswith("grpcs://")]
    if endpoints.api_key and any(host_of(address) not in _LOOPBACK for address in plain):
        raise RequestError(f"NATIVELINK_API_KEY would be sent unencrypted to {plain[0]}: use grpcs://")
    if (endpoints.tls_certificate or endpoints.tls_client_certificate) and len(plain) == len(addresses):
        raise RequestError(f"certificates have no effect on {plain[0]}: use grpcs://")
