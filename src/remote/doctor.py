"""Diagnoses remote execution: bazel run //src/remote:doctor -- --help

Every check has a timeout: a scheduler queues a mistyped platform forever, doctor names it within seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from packaging.markers import Marker

from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.remote.checks import findings
from src.remote.checks.endpoints import UNREACHABLE, check_capabilities, check_servers
from src.remote.checks.findings import Finding
from src.remote.checks.isolation import check_isolation
from src.remote.checks.test_strategies import check_build_events
from src.remote.checks.worker_system import check_system
from src.remote.checks.workers import (
    check_environment,
    check_platform,
    check_time_limits,
    lock_pins,
    sizes_in_use,
)
from src.remote.config.bazelrc import BazelConfig, read_config, upstream_of
from src.remote.config.execution_platform import read_platform
from src.remote.config.user_bazelrc import Lane, lane_of
from src.remote.image.inputs import read_omitted
from src.remote.reapi.client import RemoteClient

_CONNECT_SECONDS, _PLATFORM_SECONDS = 5.0, 15.0
# The first action in an image waits until the worker has pulled it.
_PROBE_SECONDS = 120.0
# The markers of the lock are evaluated for the image's Python, not for this one.
_IMAGE_MARKERS = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"}
_IMAGE_MARKERS |= {"platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("doctor", lambda: _run(arguments), debug="--debug" in arguments)


def _parser() -> argparse.ArgumentParser:
    parser = RefusingParser(
        prog="doctor",
        usage="bazel run //src/remote:doctor -- [FLAGS] [BAZEL_FLAG ...]",
        allow_abbrev=False,
        description="Checks the servers and workers of a --config. Bazel's flags for servers (--remote_executor=URL, "
        "--remote_header=NAME=VALUE and so on) take precedence over the config's. Exit codes: 0 no errors; 1 errors "
        "found; 2 the request is wrong.",
    )
    checks = parser.add_argument_group("what to check")
    checks.add_argument(
        "--config", default="remote", metavar="NAME", help="of .bazelrc and user.bazelrc (default: %(default)s)"
    )
    checks.add_argument(
        "--image", metavar="IMAGE", help="request this container-image instead of the one in docker/platform.bzl"
    )
    checks.add_argument(
        "--lane",
        choices=get_args(Lane),
        default=lane_of(os.environ),
        help="check workers for what this lane needs: airgap for the image's Python and packages (as --config=image "
        "does too), online for what runs those that each action brings (default: that of the Bazel that runs this)",
    )
    checks.add_argument(
        "--wait",
        type=float,
        default=_PLATFORM_SECONDS,
        metavar="SECONDS",
        help="time that a worker has to run an action (default: %(default)g)",
    )
    checks.add_argument(
        "--build_events",
        type=Path,
        metavar="FILE",
        help="check that the tests in this file of --build_event_json_file ran remotely",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _run(arguments: list[str]) -> int:
    options, overrides = _parser().parse_known_args(arguments)
    root = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY") or Path(__file__).parents[2])
    config = read_config(root, options.config, overrides=overrides)
    results = []
    for finding in _check(config, options, root=root):
        results.append(finding)
        if not options.json:
            sys.stdout.write(findings.as_text(finding))
            sys.stdout.flush()
    sys.stdout.write(findings.as_json(config.name, results) if options.json else findings.summary(results))
    return EXIT_FAILED if findings.has_errors(results) else EXIT_DONE


def _check(config: BazelConfig, options: argparse.Namespace, *, root: Path) -> Iterator[Finding]:
    """Yields the findings; the checks that depend on a failed one are skipped."""
    executor, cache = config.endpoint("remote_executor"), config.endpoint("remote_cache")
    if executor is None:
        raise RequestError(
            f"the config {config.name} has no --remote_executor: set up .env and run bazel run //src/remote:configure"
        )
    servers = upstream_of(root, config) or config
    connections = list(check_servers(servers, seconds=_CONNECT_SECONDS))
    if servers is not config:
        connections += check_servers(config, by_relay=True, seconds=_CONNECT_SECONDS)
    yield from connections
    if not any(UNREACHABLE in each.symptom and "event" not in each.check for each in connections):
        client = RemoteClient(executor, cache)
        try:
            yield from _check_servers_and_workers(client, config, options, root=root, servers=servers)
        finally:
            client.close()
    if options.build_events is not None:
        yield check_build_events(Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / options.build_events)
    else:
        remedy = "run a test with --build_event_json_file=FILE, then doctor with --build_events FILE"
        yield Finding(check="tests ran remotely", level="skipped", symptom="no build events were given", remedy=remedy)


def _check_servers_and_workers(
    client: RemoteClient, config: BazelConfig, options: argparse.Namespace, *, root: Path, servers: BazelConfig
) -> Iterator[Finding]:
    capabilities = list(check_capabilities(client, config, servers=servers, seconds=_CONNECT_SECONDS))
    yield from capabilities
    if findings.has_errors(capabilities):
        return
    platform = read_platform(root / "docker" / "platform.bzl")
    properties = dict(platform.exec_properties) | config.pairs("remote_default_exec_properties")
    if options.image is not None:
        properties["container-image"] = options.image
    finding, runs = check_platform(client, properties, seconds=options.wait)
    yield finding
    if not runs:
        return
    if options.lane == "online":
        yield from check_system(client, properties, seconds=_PROBE_SECONDS)
    else:
        yield from _check_image(client, properties, root=root, python=platform.python)
    yield check_isolation(client, properties, seconds=_PROBE_SECONDS)
    yield from check_time_limits(client, properties, sizes=sizes_in_use(root), seconds=options.wait)


def _check_image(client: RemoteClient, properties: Mapping[str, str], *, root: Path, python: str) -> Iterator[Finding]:
    lock = lock_pins(
        (root / "bazel_requirements_lock.txt").read_text(encoding="utf-8"),
        omitted=read_omitted(root / "docker" / "omitted_packages.txt"),
        applies=lambda marker: Marker(marker).evaluate(_IMAGE_MARKERS),
    )
    yield from check_environment(client, properties, python=python, lock=lock, seconds=_PROBE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
