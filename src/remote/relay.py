"""Forwards the calls of Debian's Bazel to servers that require TLS or a key: bazel run //src/remote:relay -- --help

That Bazel takes a key only as a flag, and writes each flag into its log and its build events; it has no TLS, and no
headers for build events. So it calls this program on loopback, which adds both. Bazel 8 does not need it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.standard_output import OutputHandler
from src.cli.working_folder import workspace_root
from src.remote.config.bazelrc import BazelConfig, read_config
from src.remote.config.endpoints import UPSTREAM
from src.remote.reapi.client import Endpoint
from src.remote.reapi.forwarding import NO_SIZE_LIMIT, forward
from src.remote.serving import loopback
from src.remote.serving.activity import Activity

SERVICES = ("remote_executor", "remote_cache", "bes_backend")
log = logging.getLogger("finetune.relay")


class Relay(grpc.GenericRpcHandler):
    """Forwards every method to one server."""

    def __init__(self, endpoint: Endpoint, *, activity: Activity) -> None:
        """Opens a channel to the server."""
        self._upstream = endpoint.channel(NO_SIZE_LIMIT)
        self._headers = dict(endpoint.headers)
        self._activity = activity

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Returns the handler of a method: bytes in, bytes out."""
        method = handler_call_details.method

        def relay(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._activity:
                yield from forward(self._upstream, method, requests, context, replaced=self._headers)

        return grpc.stream_stream_rpc_method_handler(relay)

    def close(self) -> None:
        """Closes the channel to the server."""
        self._upstream.close()


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("relay", lambda: _run(arguments), debug="--debug" in arguments)


def _run(arguments: list[str]) -> int:
    parser = RefusingParser(
        prog="relay",
        usage="bazel run //src/remote:relay",
        allow_abbrev=False,
        description="Forwards the calls of Debian's Bazel to the servers of user.bazelrc (//src/remote:configure) and "
        "adds the key, TLS and certificates. Ctrl-C stops it.",
    )
    parser.add_argument(
        "--idle_minutes",
        type=float,
        default=120.0,
        metavar="MINUTES",
        help="exit after this time without a call (default: %(default)g)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    return serve(workspace_root(), idle_seconds=options.idle_minutes * 60)


def serve(root: Path, *, idle_seconds: float) -> int:
    """Serves until Ctrl-C, SIGTERM or the idle time; returns the exit code.

    Raises:
        RequestError: user.bazelrc does not use the relay, or a port is in use.
    """
    logging.basicConfig(level=logging.INFO, handlers=[OutputHandler()])
    config, upstream = _configs(root)
    stop, activity = loopback.stop_on_signals(), Activity()
    relays, servers = [], []
    try:
        for service in SERVICES:
            local, endpoint = config.endpoint(service), upstream.endpoint(service)
            if local is None or endpoint is None:
                continue
            port = int(local.address.rpartition(":")[2])
            loopback.check_port(
                port, remedy="this checkout's relay is running already, or stop the program that listens there"
            )
            relays.append(Relay(endpoint, activity=activity))
            servers.append(loopback.listen(relays[-1], port=port)[0])
            log.info("relay: %s -> %s", local.url, endpoint.url)
        log.info("  bazel test --config=remote //src/training:training_test")
        if loopback.wait(stop, activity, idle_seconds=idle_seconds) == "idle":
            log.info("relay: no call for %g minutes", idle_seconds / 60)
    finally:
        for server in servers:
            server.stop(grace=1).wait()
        for relay in relays:
            relay.close()
    log.info("relay: stopped")
    return EXIT_DONE


def _configs(root: Path) -> tuple[BazelConfig, BazelConfig]:
    try:
        return read_config(root, "remote", overrides=[]), read_config(root, UPSTREAM, overrides=[])
    except RequestError as error:
        raise RequestError(
            f"{error}: no relay is configured; bazel run //src/remote:configure says whether one is needed"
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
