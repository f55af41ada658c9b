"""The executor's command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

from src.cli.errors import RequestError
from src.cli.parser import RefusingParser
from src.cli.working_folder import workspace_root
from src.remote.config.api_key import KEY_VARIABLE, key_of

DEFAULT_PORT = 8980


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The command line, and the key from the environment."""

    port: int
    slots: int
    image: str
    folder: Path
    state_dir: Path
    tls: bool
    api_key: str | None = field(repr=False)
    queue_unmatched: bool
    idle_minutes: float
    cache_gb: float
    ready_file: Path | None


def parse(arguments: list[str]) -> Settings:
    """Parses the command line.

    Raises:
        RequestError: a flag is wrong.
    """
    flags = vars(_parser().parse_args(arguments))
    if flags["slots"] < 1:
        raise RequestError("--slots must be at least 1")
    key = key_of(os.environ) if flags.pop("require_key") else None
    if key == "":
        raise RequestError(f"--require_key takes the key from the environment: set {KEY_VARIABLE}")
    folder = workspace_root() / ".executor"
    flags["state_dir"] = (flags["state_dir"] or folder / "state").absolute()
    del flags["debug"]
    return Settings(folder=folder, api_key=key, **flags)


def _parser() -> argparse.ArgumentParser:
    parser = RefusingParser(
        prog="executor",
        usage="bazel run //src/remote:executor -- [FLAGS]",
        description="A remote executor on this machine, on loopback. Ctrl-C stops it.",
    )
    actions = parser.add_argument_group("actions")
    actions.add_argument(
        "--image",
        choices=("pinned", "host"),
        default="pinned",
        help="pinned: actions run chrooted in the image of docker/platform.bzl; host: with this machine's programs "
        "(default: %(default)s)",
    )
    actions.add_argument(
        "--slots", type=int, default=2, metavar="N", help="actions at once; more queue (default: %(default)s)"
    )
    actions.add_argument(
        "--queue_unmatched",
        action="store_true",
        help="queue an action that no worker matches forever, as NativeLink does, instead of refusing it",
    )
    server = parser.add_argument_group("server")
    server.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port on 127.0.0.1; 0 picks a free one (default: %(default)s)"
    )
    server.add_argument("--tls", action="store_true", help="serve TLS, with a certificate made at each start")
    server.add_argument(
        "--require_key", action="store_true", help=f"refuse calls without the key that {KEY_VARIABLE} holds"
    )
    server.add_argument(
        "--idle_minutes",
        type=float,
        default=120.0,
        metavar="MINUTES",
        help="exit after this time without a call (default: %(default)g)",
    )
    storage = parser.add_argument_group("storage")
    storage.add_argument(
        "--cache_gb",
        type=float,
        default=20.0,
        metavar="GB",
        help="evict old blobs above this size (default: %(default)g)",
    )
    storage.add_argument(
        "--state_dir", type=Path, metavar="DIR", help="cache, logs and build events (default: .executor/state)"
    )
    scripts = parser.add_argument_group("scripts and debugging")
    scripts.add_argument(
        "--ready_file", type=Path, metavar="FILE", help="write the address to this file once the executor serves"
    )
    scripts.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
