"""The part of user.bazelrc that //src/remote:configure writes; whatever else stands in that file is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

from src.remote.endpoints import Endpoints, host_of
from src.training.errors import RequestError

Lane = Literal["online", "airgap"]

BEGIN = "# >>> //src/remote:configure writes what follows, and writes it anew each time"
END = "# <<< //src/remote:configure"

_HELPER = "%workspace%/tools/online/credential_helper"


def flags(endpoints: Endpoints, *, lane: Lane) -> list[str]:
    """Returns the lines of --config=remote that say where it goes.

    Bazel copies every flag of every bazelrc into its build events, so on Bazel 8 the key is a comment, which
    tools/online/credential_helper reads and hands to the cache, the executor and the build event service alike.
    Debian's Bazel 4 has headers alone, and none for build events: there those are left out where there is a key.
    """
    given = {"remote_executor": endpoints.executor}
    if endpoints.cache:
        given["remote_cache"] = endpoints.cache
    if endpoints.bes and (lane == "online" or not endpoints.api_key):
        given["bes_backend"] = endpoints.bes
        if endpoints.results_url:
            given["bes_results_url"] = endpoints.results_url
    for name in ("tls_certificate", "tls_client_certificate", "tls_client_key"):
        if path := getattr(endpoints, name):
            given[name] = path
    lines = [_flag(name, value) for name, value in given.items()]
    if endpoints.api_key and lane == "airgap":
        lines.append(_flag("remote_header", f"x-nativelink-api-key={endpoints.api_key}"))
    elif endpoints.api_key:
        hosts = dict.fromkeys(host_of(address) for address in endpoints.addresses())
        lines += [_flag("credential_helper", f"{host}={_HELPER}") for host in hosts]
        lines.append(f"# x-nativelink-api-key: {endpoints.api_key}")
    return lines


def _flag(name: str, value: str) -> str:
    # A path may have spaces: Bazel splits an rc line as a shell would.
    flag = f"--{name}={value}"
    return f'build:remote "{flag}"' if " " in flag else f"build:remote {flag}"


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
