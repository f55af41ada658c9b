"""Says what is wrong with remote execution: bazel run //src/remote:doctor -- --help

Every check has a time limit: a scheduler lets a mistyped platform wait for ever, here it takes seconds to find.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker

from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.remote.checks import findings
from src.remote.checks.endpoint_checks import check_capabilities, check_servers
from src.remote.checks.findings import Finding
from src.remote.checks.test_strategies import check_build_events
from src.remote.checks.worker_checks import (
    check_environment,
    check_platform,
    check_time_limits,
    lock_pins,
    sizes_in_use,
)
from src.remote.config.bazel_config import BazelConfig, read_config, upstream_of
from src.remote.config.execution_platform import read_platform
from src.remote.reapi.client import RemoteClient

_CONNECT_SECONDS, _PLATFORM_SECONDS = 5.0, 15.0
# The first action in an image waits until the worker has fetched it.
_PROBE_SECONDS = 120.0
# The image's Python: markers of the lock are judged for it and not for this one.
_IMAGE = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"}
_IMAGE |= {"platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("doctor", lambda: _run(arguments), debug="--debug" in arguments)


def _parser() -> argparse.ArgumentParser:
    parser = RefusingParser(
        prog="doctor",
        usage="bazel run //src/remote:doctor -- [--config NAME] [FLAG OF BAZEL ...]",
        allow_abbrev=False,
        description="Looks at the servers and workers of a --config and says what is wrong. "
        "Exit codes: 0 nothing is wrong; 1 something is; 2 the request is wrong.",
    )
    parser.add_argument("--config", default="remote", help="of .bazelrc and user.bazelrc (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    parser.add_argument(
        "--build_events", type=Path, help="a file of --build_event_json_file: tells whether its tests ran remotely"
    )
    parser.add_argument("--image", help="ask for this container-image instead of that in docker/platform.bzl")
    parser.add_argument("--wait", type=float, default=_PLATFORM_SECONDS, help="seconds that a worker has to show up")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _run(arguments: list[str]) -> int:
    given, overrides = _parser().parse_known_args(arguments)
    root = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY") or Path(__file__).parents[2])
    config = read_config(root, given.config, overrides=overrides)
    found = []
    for finding in _examine(config, given, root=root):
        found.append(finding)
        if not given.json:
            sys.stdout.write(findings.as_text(finding))
            sys.stdout.flush()
    sys.stdout.write(findings.as_json(config.name, found) if given.json else findings.summary(found))
    return EXIT_FAILED if findings.has_errors(found) else EXIT_DONE


def _examine(config: BazelConfig, given: argparse.Namespace, *, root: Path) -> Iterator[Finding]:
    """Yields what is found; where a check fails that others stand on, these are left out."""
    executor, cache = config.endpoint("remote_executor"), config.endpoint("remote_cache")
    if executor is None:
        raise RequestError(f"the config {config.name} has no --remote_executor: set up .env and run configure")
    servers = upstream_of(root, config) or config
    reached = list(check_servers(servers, seconds=_CONNECT_SECONDS))
    if servers is not config:
        reached += check_servers(config, by_relay=True, seconds=_CONNECT_SECONDS)
    yield from reached
    if not any("is not reached" in each.symptom and "event" not in each.check for each in reached):
        client = RemoteClient(executor, cache)
        try:
            yield from _examine_servers(client, config, given, root=root, has_key=servers.has_key)
        finally:
            client.close()
    if given.build_events is not None:
        yield check_build_events(Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / given.build_events)
    else:
        remedy = "run a test with --build_event_json_file=FILE, then doctor with --build_events FILE"
        yield Finding(check="tests ran remotely", level="skipped", symptom="no build events given", remedy=remedy)


def _examine_servers(
    client: RemoteClient, config: BazelConfig, given: argparse.Namespace, *, root: Path, has_key: bool
) -> Iterator[Finding]:
    said = list(check_capabilities(client, config, has_key=has_key, seconds=_CONNECT_SECONDS))
    yield from said
    if findings.has_errors(said):
        return
    platform = read_platform(root / "docker" / "platform.bzl")
    properties = dict(platform.exec_properties) | config.pairs("remote_default_exec_properties")
    if given.image is not None:
        properties["container-image"] = given.image
    finding, runs = check_platform(client, properties, seconds=given.wait)
    yield finding
    if not runs:
        return
    lock = lock_pins(
        (root / "bazel_requirements_lock.txt").read_text(encoding="utf-8"),
        (root / "docker" / "omitted_packages.txt").read_text(encoding="utf-8"),
        applies=lambda marker: Marker(marker).evaluate(_IMAGE),
    )
    yield from check_environment(client, properties, python=platform.python, lock=lock, seconds=_PROBE_SECONDS)
    yield from check_time_limits(client, properties, sizes=sizes_in_use(root), seconds=given.wait)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
