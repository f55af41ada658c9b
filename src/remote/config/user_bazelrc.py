"""The part of user.bazelrc that //src/remote:configure writes; whatever else stands in that file is kept."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from src.cli.errors import RequestError
from src.remote.config.endpoints import KEY_COMMENT, UPSTREAM, Endpoints, host_of

Lane = Literal["online", "airgap"]

BEGIN = "# >>> //src/remote:configure writes what follows, and writes it anew each time"
END = "# <<< //src/remote:configure"

_HELPER = "%workspace%/tools/online/credential_helper"
# Three ports a checkout, below those that connections take by themselves (ip_local_port_range).
_RELAY_PORTS = range(21000, 30000, 3)


def needs_relay(endpoints: Endpoints, *, lane: Lane) -> bool:
    """Whether //src/remote:relay has to stand between Bazel and the servers: Debian's has no TLS and hides no key."""
    encrypted = any(address.startswith("grpcs://") for address in endpoints.addresses())
    return lane == "airgap" and (encrypted or bool(endpoints.api_key))


def flags(endpoints: Endpoints, *, lane: Lane, root: Path) -> list[str]:
    """Returns the lines of --config=remote that say where it goes.

    Bazel copies every flag of every bazelrc into its build events and its log, so the key is a comment. On Bazel 8
    tools/online/credential_helper reads it and hands it to the cache, the executor and the build event service alike;
    with Debian's Bazel //src/remote:relay does, at addresses that no other checkout has.
    """
    services = {
        "remote_executor": endpoints.executor,
        "remote_cache": endpoints.cache,
        "bes_backend": endpoints.bes,
    }
    # An executor that is left out is set to nothing: .bazelrc names a host that tells to run configure.
    servers = {name: address for name, address in services.items() if address or name == "remote_executor"}
    pages = {"bes_results_url": endpoints.results_url} if endpoints.bes and endpoints.results_url else {}
    files = {
        name: path
        for name in ("tls_certificate", "tls_client_certificate", "tls_client_key")
        if (path := getattr(endpoints, name))
    }
    key = [f"{KEY_COMMENT} {endpoints.api_key}"] if endpoints.api_key else []
    if needs_relay(endpoints, lane=lane):
        first = _RELAY_PORTS[zlib.crc32(str(root).encode()) % len(_RELAY_PORTS)]
        doors = {
            name: f"grpc://127.0.0.1:{first + number}" if address else ""
            for number, (name, address) in enumerate(servers.items())
        }
        return [*_lines("remote", doors | pages), *_lines(UPSTREAM, servers | files), *key]
    helpers = []
    if endpoints.api_key:
        hosts = dict.fromkeys(host_of(address) for address in endpoints.addresses())
        helpers = [line for host in hosts for line in _lines("remote", {"credential_helper": f"{host}={_HELPER}"})]
    return [*_lines("remote", servers | pages | files), *helpers, *key]


def _lines(config: str, values: Mapping[str, str]) -> list[str]:
    # A path may have spaces: Bazel splits an rc line as a shell would.
    flags = (f"--{name}={value}" for name, value in values.items())
    return [f'build:{config} "{flag}"' if " " in flag else f"build:{config} {flag}" for flag in flags]


def with_block(text: str, lines: list[str]) -> str:
    """Returns a bazelrc's text with its managed block replaced, or removed where there are no lines.

    Raises:
        RequestError: the block's markers are not one pair.
    """
    rows = text.splitlines(keepends=True)
    at = [index for index, row in enumerate(rows) if row.strip() in (BEGIN, END)]
    block = "\n".join([BEGIN, *lines, END]) + "\n" if lines else ""
    if not at:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}{block}"
    if [rows[index].strip() for index in at] != [BEGIN, END]:
        raise RequestError(f"user.bazelrc has lost one of the lines '{BEGIN}' and '{END}': remove what is between them")
    return "".join(rows[: at[0]]) + block + "".join(rows[at[1] + 1 :])


def write_privately(path: Path, text: str) -> None:
    """Replaces a file at once, readable by its owner alone. A link's target is replaced, not the link.

    Raises:
        OSError: it cannot be written; then it is as it was.
    """
    path = path.resolve()
    # The name is one that .gitignore has. mkstemp makes the file with mode 0600.
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
