"""The block of user.bazelrc that //src/remote:configure writes; the rest of the file is kept."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from src.cli.errors import RequestError
from src.remote.config.endpoints import KEY_COMMENT, SERVERS, UPSTREAM, Endpoints, host_of

Lane = Literal["online", "airgap"]

# Existing files hold these lines: a changed marker would leave an old block, and its key, behind.
BEGIN = "# >>> //src/remote:configure writes what follows, and writes it anew each time"
END = "# <<< //src/remote:configure"

_HELPER = "%workspace%/tools/online/credential_helper"
# Three ports for each checkout, below the ephemeral ports (ip_local_port_range).
_RELAY_PORTS = range(21000, 30000, 3)


def lane_of(environment: Mapping[str, str]) -> Lane:
    """Returns the lane of the Bazel that runs this: tools/bazel sets this variable where it is Debian's."""
    return "airgap" if environment.get("AIRGAP_PYTHON") else "online"


def needs_relay(endpoints: Endpoints, *, lane: Lane) -> bool:
    """Whether Bazel needs //src/remote:relay to reach the servers: Debian's has no TLS and cannot keep a key secret."""
    encrypted = any(address.startswith("grpcs://") for address in endpoints.addresses())
    return lane == "airgap" and (encrypted or bool(endpoints.api_key))


def flags(endpoints: Endpoints, *, lane: Lane, root: Path) -> list[str]:
    """Returns the bazelrc lines of --config=remote.

    Bazel copies every flag of every bazelrc into its build events and its log, so the key is a comment. With Bazel 8
    tools/online/credential_helper reads it for the cache, the executor and the build event service alike; with
    Debian's Bazel //src/remote:relay does, on ports that no other checkout uses.
    """
    services = {
        "remote_executor": endpoints.executor,
        "remote_cache": endpoints.cache,
        "bes_backend": endpoints.bes,
    }
    # `none` as executor becomes an empty flag: without a server the config would not be defined.
    servers = {name: address for name, address in services.items() if address or name == "remote_executor"}
    pages = {"bes_results_url": endpoints.results_url} if endpoints.bes and endpoints.results_url else {}
    files = {
        name: path
        for name in ("tls_certificate", "tls_client_certificate", "tls_client_key")
        if (path := getattr(endpoints, name))
    }
    key = [f"{KEY_COMMENT} {endpoints.api_key}"] if endpoints.api_key else []
    if needs_relay(endpoints, lane=lane):
        first_port = _RELAY_PORTS[zlib.crc32(str(root).encode()) % len(_RELAY_PORTS)]
        local = {
            name: f"grpc://127.0.0.1:{first_port + offset}" if address else ""
            for offset, (name, address) in enumerate(servers.items())
        }
        return [*_lines(SERVERS, local | pages), *_lines(UPSTREAM, servers | files), *key]
    helpers = []
    if endpoints.api_key:
        hosts = dict.fromkeys(host_of(address) for address in endpoints.addresses())
        helpers = [line for host in hosts for line in _lines(SERVERS, {"credential_helper": f"{host}={_HELPER}"})]
    return [*_lines(SERVERS, servers | pages | files), *helpers, *key]


def _lines(config: str, values: Mapping[str, str]) -> list[str]:
    # A path may contain spaces: Bazel splits an rc line as a shell does.
    flags = (f"--{name}={value}" for name, value in values.items())
    return [f'build:{config} "{flag}"' if " " in flag else f"build:{config} {flag}" for flag in flags]


def with_block(text: str, lines: list[str]) -> str:
    """Returns a bazelrc's text with the managed block replaced, or removed if there are no lines.

    Raises:
        RequestError: the file does not hold exactly one pair of markers.
    """
    old = text.splitlines(keepends=True)
    markers = [index for index, line in enumerate(old) if line.strip() in (BEGIN, END)]
    block = "\n".join([BEGIN, *lines, END]) + "\n" if lines else ""
    if not markers:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}{block}"
    if [old[index].strip() for index in markers] != [BEGIN, END]:
        raise RequestError(f"user.bazelrc has lost one of the lines '{BEGIN}' and '{END}': remove the block by hand")
    return "".join(old[: markers[0]]) + block + "".join(old[markers[1] + 1 :])


def write_privately(path: Path, text: str) -> None:
    """Replaces a file atomically, readable by its owner only. Writes through a symlink to its target.

    Raises:
        OSError: it cannot be written; then it is unchanged.
    """
    path = path.resolve()
    # .gitignore covers this name. mkstemp creates the file with mode 0600.
    handle, name = tempfile.mkstemp(prefix="user.bazelrc.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
