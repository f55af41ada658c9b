"""Serves gRPC on 127.0.0.1, for the user who runs the server, until a signal or an idle timeout."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Literal

import grpc

from src.cli.errors import RequestError
from src.remote.reapi.forwarding import NO_SIZE_LIMIT
from src.remote.serving.activity import Activity
from src.remote.serving.peer_owner import is_owned_by_me

# Each waiting action occupies a thread.
_THREADS = 128
POLL_SECONDS = 0.2


def check_port(port: int, *, remedy: str) -> None:
    """Refuses a port that is in use; 0 is always free.

    Raises:
        RequestError: it is in use; the message ends with `remedy`.
    """
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise RequestError(f"port {port} is in use: {remedy}") from error


def listen(
    handler: grpc.GenericRpcHandler, *, port: int, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.Server, int]:
    """Serves a handler on loopback; returns the server and its port.

    Loopback keeps out other machines, not the other users of this one: their calls are refused.

    Args:
        handler: handles the calls, as bytes in streams.
        port: 0 picks a free one.
        credentials: for TLS.
    """
    guarded = _OwnUserOnly(handler)
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        handlers=[guarded],
        # Without this two servers on one port would share the calls.
        options=[*NO_SIZE_LIMIT, ("grpc.so_reuseport", 0)],
    )
    address = f"127.0.0.1:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    guarded.port = port
    server.start()
    return server, port


class _OwnUserOnly(grpc.GenericRpcHandler):
    """Passes on the calls of the user who runs this program and refuses everybody else's."""

    def __init__(self, handler: grpc.GenericRpcHandler) -> None:
        self._handler = handler
        self.port = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        served = self._handler.service(handler_call_details)
        if served is None:
            return None

        def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            if not is_owned_by_me(context.peer(), port=self.port):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "this server serves only the user who runs it")
            yield from served.stream_stream(requests, context)

        return grpc.stream_stream_rpc_method_handler(guarded)


def stop_on_signals() -> threading.Event:
    """Returns an event that Ctrl-C, SIGTERM and SIGHUP set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


def wait(
    stop: threading.Event, activity: Activity, *, idle_seconds: float, is_healthy: Callable[[], bool] = lambda: True
) -> Literal["stopped", "idle", "failed"]:
    """Blocks until the server should end and returns why; `failed` means that `is_healthy` returned false."""
    while not stop.wait(POLL_SECONDS):
        if not is_healthy():
            return "failed"
        if activity.idle_seconds() > idle_seconds:
            return "idle"
    return "stopped"
