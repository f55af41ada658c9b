"""Serves gRPC on 127.0.0.1, for the user who runs the server, until a signal or an idle timeout."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Literal

import grpc

from src.cli.errors import RequestError
from src.remote.reapi.forwarding import NO_SIZE_LIMIT
from src.remote.reapi.messages import PUBLISH_EVENT_STREAM
from src.remote.serving.activity import Activity
from src.remote.serving.peer_owner import is_owned_by_me

# Each waiting action occupies a thread.
_THREADS = 128
POLL_SECONDS = 0.2
# How long a client may keep a stream open, and with it a thread, without the message that it owes. Bazel gives up on a
# transfer after 60 seconds (--remote_timeout). Build events may have to wait for a test, which may take an hour.
_MAX_SILENCE_SECONDS = 120.0
_MAX_SILENCE_OF_EVENTS_SECONDS = 2 * 3600.0


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

    Loopback keeps out other machines, not the other users of this one: their calls are refused. A call whose client
    falls silent is cancelled.

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
    threading.Thread(target=_cancel_silent, args=(server, guarded.silences), daemon=True).start()
    return server, port


class _Silences:
    """The calls that wait for a message of their clients, and how long they may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[grpc.ServicerContext, float] = {}

    def limited(self, requests: Iterator[bytes], context: grpc.ServicerContext, *, seconds: float) -> Iterator[bytes]:
        """Yields the messages of a call; the first has to come at once."""
        allowed = min(seconds, _MAX_SILENCE_SECONDS)
        while True:
            with self._lock:
                self._deadlines[context] = time.monotonic() + allowed
            try:
                message = next(requests, None)
            finally:
                with self._lock:
                    del self._deadlines[context]
            if message is None:
                return
            yield message
            allowed = seconds

    def cancel_overdue(self) -> None:
        with self._lock:
            overdue = [context for context, deadline in self._deadlines.items() if deadline < time.monotonic()]
        for context in overdue:
            context.cancel()


def _cancel_silent(server: grpc.Server, silences: _Silences) -> None:
    # True while the server runs.
    while server.wait_for_termination(timeout=POLL_SECONDS):
        silences.cancel_overdue()


class _OwnUserOnly(grpc.GenericRpcHandler):
    """Passes on the calls of the user who runs this program and refuses everybody else's."""

    def __init__(self, handler: grpc.GenericRpcHandler) -> None:
        self._handler = handler
        self.port = 0
        self.silences = _Silences()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        served = self._handler.service(handler_call_details)
        if served is None:
            return None
        is_events = handler_call_details.method == PUBLISH_EVENT_STREAM

        def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            if not is_owned_by_me(context.peer(), port=self.port):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "this server serves only the user who runs it")
            seconds = _MAX_SILENCE_OF_EVENTS_SECONDS if is_events else _MAX_SILENCE_SECONDS
            yield from served.stream_stream(self.silences.limited(requests, context, seconds=seconds), context)

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
