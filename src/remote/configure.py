"""bazel run //src/remote:configure: writes user.bazelrc, which --config=remote needs, from .env.

The key goes from one git-ignored file into another that only its owner can read, and is never printed.
"""

from __future__ import annotations

import argparse
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from dotenv import dotenv_values

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.working_folder import workspace_root
from src.remote.config import user_bazelrc
from src.remote.config.api_key import KEY_VARIABLE, key_of
from src.remote.config.endpoints import SETTINGS, Endpoints, read_endpoints
from src.remote.config.user_bazelrc import Lane

_DESCRIPTION = """\
Writes user.bazelrc for --config=remote, from .env (see .env.example) and the environment.

Exit codes: 0 done; 2 a setting is wrong or missing, nothing was written; 1 any other error."""
_UNCHANGED = "user.bazelrc is unchanged"


def _parser() -> argparse.ArgumentParser:
    parser = RefusingParser(
        prog="configure",
        usage="bazel run //src/remote:configure -- [FLAGS]",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_DESCRIPTION,
    )
    settings = parser.add_argument_group("what to write")
    settings.add_argument("--env_file", metavar="FILE", help="settings (default: .env in the repository)")
    settings.add_argument(
        "--lane", choices=get_args(Lane), help="which Bazel to write flags for (default: the one that runs this)"
    )
    settings.add_argument("--remove", action="store_true", help="remove endpoints and key from user.bazelrc")
    debugging = parser.add_argument_group("debugging")
    debugging.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def configure(arguments: Sequence[str], *, environment: Mapping[str, str]) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name.
        environment: its NATIVELINK_* variables take precedence over those of the file.

    Returns:
        The exit code.

    Raises:
        RequestError: a setting is wrong, or git would commit the key.
        OSError: a file cannot be read or written.
    """
    options = _parser().parse_args(arguments)
    root = workspace_root(environment)
    target = root / "user.bazelrc"
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    if options.remove:
        user_bazelrc.write_privately(target, user_bazelrc.with_block(before, []))
        print("removed endpoints and key from user.bazelrc")
        return EXIT_DONE
    env_file = _env_file(options.env_file, root=root, environment=environment)
    endpoints = read_endpoints(_settings(env_file, environment), folder=root)
    _check_git(root, env_file)
    lane: Lane = options.lane or user_bazelrc.lane_of(environment)
    text = user_bazelrc.with_block(before, user_bazelrc.flags(endpoints, lane=lane, root=root))
    user_bazelrc.write_privately(target, text)
    _report(endpoints, lane=lane, env_file=env_file)
    return EXIT_DONE


def _env_file(named: str | None, *, root: Path, environment: Mapping[str, str]) -> Path | None:
    folder = Path(environment.get("BUILD_WORKING_DIRECTORY") or root)
    path = folder / Path(named).expanduser() if named else root / ".env"
    if path.is_file():
        return path
    if named:
        raise RequestError(f"--env_file: no such file: {path}")
    return None


def _settings(env_file: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    # Without interpolation a dollar sign in a value stays one.
    values = dotenv_values(env_file, interpolate=False) if env_file else {}
    settings = {name: value or "" for name, value in values.items() if name.startswith("NATIVELINK_")}
    variables = {**environment, KEY_VARIABLE: key_of(environment)}
    return settings | {name: variables[name] for name in SETTINGS if variables.get(name)}


def _check_git(root: Path, env_file: Path | None) -> None:
    """Refuses to write a key where git would commit it."""
    if _git(root, "rev-parse", "--is-inside-work-tree") != 0:
        return
    if _git(root, "check-ignore", "--quiet", "user.bazelrc") != 0:
        raise RequestError("git does not ignore user.bazelrc: add the line /user.bazelrc* to .gitignore first")
    if env_file is not None and _git(root, "ls-files", "--error-unmatch", str(env_file)) == 0:
        raise RequestError(f"git tracks {env_file.name} with the key in it: git rm --cached {env_file.name}")


def _git(root: Path, *arguments: str) -> int:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return 1
    return done.returncode


def _report(endpoints: Endpoints, *, lane: Lane, env_file: Path | None) -> None:
    print(f"wrote user.bazelrc (only you can read it) for --config=remote, {lane} lane")
    print(f"  executor  {endpoints.executor or 'none: actions run locally'}")
    print(f"  cache     {endpoints.cache or endpoints.executor}")
    print(f"  key       {'set' if endpoints.api_key else 'none'}")
    if endpoints.bes:
        print(f"  events    {endpoints.bes}")
    if user_bazelrc.needs_relay(endpoints, lane=lane):
        print(
            "Debian's Bazel has no TLS and cannot keep a key secret. "
            "Start the relay in a second terminal: bazel run //src/remote:relay"
        )
    if endpoints.api_key and lane == "online":
        print("Bazel remembers a key for 30 minutes: after a change of the key run bazel shutdown")
    if env_file is not None and env_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        print(f"other users of this machine can read {env_file.name}: chmod 600 {env_file.name}")


def main(arguments: Sequence[str] | None = None, *, environment: Mapping[str, str] = os.environ) -> int:
    """Runs the command line; returns the exit code."""
    flags = sys.argv[1:] if arguments is None else arguments

    def work() -> int:
        try:
            return configure(flags, environment=environment)
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(f"{error}: {_UNCHANGED}") from error

    return exit_code_of("configure", work, debug="--debug" in flags, retry=f"run configure again: {_UNCHANGED}")


if __name__ == "__main__":
    sys.exit(main())
