"""Listens on 127.0.0.1 until it is told to end or nobody calls any more."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Literal

import grpc

from src.cli.errors import RequestError
from src.remote.reapi.forwarding import NO_SIZE_LIMIT
from src.remote.serving.activity import Activity

# Each waiting action holds a thread.
_THREADS = 128
LOOK_SECONDS = 0.2


def check_port(port: int, *, remedy: str) -> None:
    """Refuses a port that is taken, and says what to do then; 0 is always free.

    Raises:
        RequestError: it is taken.
    """
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise RequestError(f"port {port} is taken: {remedy}") from error


def listen(
    handler: grpc.GenericRpcHandler, *, port: int, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.Server, int]:
    """Serves a handler on loopback; returns the server and its port.

    Args:
        handler: what answers.
        port: 0 takes any free one.
        credentials: for TLS.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        handlers=[handler],
        # Two servers on one port would each get some of the calls.
        options=[*NO_SIZE_LIMIT, ("grpc.so_reuseport", 0)],
    )
    address = f"127.0.0.1:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, port


def stop_on_signals() -> threading.Event:
    """Returns an event that Ctrl-C, SIGTERM and SIGHUP set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


def wait(
    stop: threading.Event, activity: Activity, *, idle_seconds: float, is_well: Callable[[], bool] = lambda: True
) -> Literal["stopped", "idle", "failed"]:
    """Waits for the end and says why it came; `failed` where `is_well` has turned false."""
    while not stop.wait(LOOK_SECONDS):
        if not is_well():
            return "failed"
        if activity.idle_seconds() > idle_seconds:
            return "idle"
    return "stopped"
