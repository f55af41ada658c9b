"""The relay adds the key, verifies TLS, and serves its own user alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from src.remote import relay
from src.remote.end_to_end.memory_executor import MemoryExecutor, served
from src.remote.reapi.client import Endpoint, RemoteClient, RemoteError, TinyAction
from src.remote.relay import Relay
from src.remote.serving.activity import Activity
from src.remote.serving.admission import Offer
from src.remote.serving.certificate import make_certificate
from src.remote.serving.gateway import Door, Gateway
from src.remote.serving.loopback import listen
from src.remote.serving.peer_owner import is_owned_by_me

HEADER, KEY = "x-nativelink-api-key", "k3y-0f-a-test"
ECHO = TinyAction(arguments=("/bin/sh", "-c", "echo said"), properties={})


@contextmanager
def far_away(certificates: Path, behind: MemoryExecutor) -> Iterator[Endpoint]:
    """A server with TLS that demands the key; gives how it is reached."""
    made = make_certificate(certificates)
    with served(behind) as upstream, grpc.insecure_channel(upstream) as channel:
        front = Gateway(
            upstream=channel,
            offer=Offer(properties={}, image=None),
            door=Door(header=HEADER, key=KEY),
            queue_strangers=False,
            own={},
        )
        server, port = listen(front, port=0, credentials=made.credentials)
        try:
            yield Endpoint(url=f"grpcs://127.0.0.1:{port}", headers={HEADER: KEY}, certificate=made.path.read_bytes())
        finally:
            server.stop(None).wait()


@contextmanager
def relayed(endpoint: Endpoint) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    handler = Relay(endpoint, port=port, activity=Activity())
    server, _ = listen(handler, port=port)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        handler.close()


def test_a_client_without_tls_and_key_reaches_a_server_that_demands_both(tmp_path: Path) -> None:
    behind = MemoryExecutor()
    with far_away(tmp_path, behind) as endpoint, relayed(endpoint) as url:
        outcome = RemoteClient(Endpoint(url=url)).run(ECHO, seconds=10)
    assert (outcome.exit_code, outcome.stdout) == (0, "said\n")


def test_the_servers_no_is_the_callers(tmp_path: Path) -> None:
    with far_away(tmp_path, MemoryExecutor()) as endpoint:
        wrong = Endpoint(url=endpoint.url, headers={HEADER: "wrong"}, certificate=endpoint.certificate)
        with relayed(wrong) as url, pytest.raises(RemoteError, match="UNAUTHENTICATED: the header x-nativelink"):
            RemoteClient(Endpoint(url=url)).capabilities(seconds=5)


def test_a_certificate_that_is_not_trusted_is_not_spoken_to(tmp_path: Path) -> None:
    behind = MemoryExecutor()
    with far_away(tmp_path, behind) as endpoint:
        distrustful = Endpoint(url=endpoint.url, headers=endpoint.headers)
        with relayed(distrustful) as url, pytest.raises(RemoteError):
            RemoteClient(Endpoint(url=url)).capabilities(seconds=3)
    assert behind.headers == []


def test_only_its_own_user_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = MemoryExecutor()
    with far_away(tmp_path, behind) as endpoint, relayed(endpoint) as url:
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises(RemoteError, match="PERMISSION_DENIED"):
            RemoteClient(Endpoint(url=url)).capabilities(seconds=5)
    assert behind.headers == []


def test_a_connection_belongs_to_who_opened_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            peer = f"ipv4:127.0.0.1:{client.getsockname()[1]}"
            assert is_owned_by_me(peer, port=port)
            assert not is_owned_by_me(peer, port=port - 1)
        assert not is_owned_by_me("ipv4:127.0.0.1:1", port=port)
        assert not is_owned_by_me("unix:", port=port)


def test_where_no_relay_is_needed_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    (tmp_path / "user.bazelrc").write_text("build:remote --remote_executor=grpc://127.0.0.1:1\n")
    assert relay.main([]) == 2
    said = capsys.readouterr().err
    assert "bazel run //src/remote:configure says whether it has to be" in said
    assert said.count("\n") == 1


def test_the_program_serves_until_it_is_ended(tmp_path: Path) -> None:
    with far_away(tmp_path / "tls", MemoryExecutor()) as endpoint, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        lines = [
            f"build:remote --remote_executor=grpc://127.0.0.1:{port}",
            f"build:remote-upstream --remote_executor={endpoint.url}",
            f"build:remote-upstream --tls_certificate={tmp_path / 'tls' / 'certificate.pem'}",
            f"# {HEADER}: {KEY}",
        ]
        (tmp_path / "user.bazelrc").write_text("\n".join(lines) + "\n")
        program = subprocess.Popen(
            [sys.executable, "-m", "src.remote.relay"],
            env={**os.environ, "BUILD_WORKSPACE_DIRECTORY": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == f"relay: grpc://127.0.0.1:{port} -> {endpoint.url}\n"
            outcome = RemoteClient(Endpoint(url=f"grpc://127.0.0.1:{port}")).run(ECHO, seconds=20)
            assert outcome.stdout == "said\n"
        finally:
            program.send_signal(signal.SIGINT)
            said, _ = program.communicate(timeout=20)
    assert (program.returncode, said.endswith("relay: ended\n")) == (0, True)
    assert KEY not in said
