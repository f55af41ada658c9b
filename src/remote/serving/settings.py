"""What the executor is asked for: its command line."""

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
    """What was asked for on the command line; the key comes from the environment."""

    port: int
    slots: int
    image: str
    folder: Path
    state_dir: Path
    tls: bool
    api_key: str | None = field(repr=False)
    queue_strangers: bool
    idle_minutes: float
    cache_gb: float
    ready_file: Path | None


def parse(arguments: list[str]) -> Settings:
    """Reads the command line.

    Raises:
        RequestError: a flag is wrong.
    """
    given = vars(_command_line().parse_args(arguments))
    if given["slots"] < 1:
        raise RequestError("--slots has to be at least 1")
    key = key_of(os.environ) if given.pop("demand_key") else None
    if key == "":
        raise RequestError(f"--demand_key needs the key in the environment: set {KEY_VARIABLE}")
    folder = workspace_root() / ".executor"
    given["state_dir"] = (given["state_dir"] or folder / "state").absolute()
    del given["debug"]
    return Settings(folder=folder, api_key=key, **given)


def _command_line() -> argparse.ArgumentParser:
    parser = RefusingParser(
        prog="executor",
        usage="bazel run //src/remote:executor -- [FLAGS]",
        description="A remote executor on this machine, on loopback. Ctrl-C ends it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free one")
    parser.add_argument("--slots", type=int, default=2, help="actions at once; more wait")
    parser.add_argument(
        *("--image",),
        choices=("pinned", "host"),
        default="pinned",
        help="pinned: actions run chrooted in the image of docker/platform.bzl; host: with this machine's programs",
    )
    parser.add_argument("--tls", action="store_true", help="serve TLS, with a certificate made for this start")
    parser.add_argument("--demand_key", action="store_true", help="demand the key in NATIVELINK_API_KEY of every call")
    parser.add_argument(
        *("--queue_strangers",),
        action="store_true",
        help="let an action for which no worker fits wait for ever, as NativeLink does, instead of refusing it",
    )
    parser.add_argument("--idle_minutes", type=float, default=120.0, help="end after this time without a call")
    parser.add_argument("--cache_gb", type=float, default=20.0, help="drop old blobs above this size")
    parser.add_argument("--state_dir", type=Path, help="where its files go; .executor/state if not given")
    parser.add_argument("--ready_file", type=Path, help="a file to write the address to, once it serves")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
