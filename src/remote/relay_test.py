"""The relay adds the key, verifies TLS, and serves only its own user."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from src.remote import relay
from src.remote.config.endpoints import KEY_HEADER
from src.remote.reapi.client import Endpoint, RemoteClient, RemoteError, TinyAction
from src.remote.relay import Relay
from src.remote.serving import peer_owner
from src.remote.serving.activity import Activity
from src.remote.serving.certificate import make_certificate
from src.remote.serving.loopback import listen
from src.remote.serving.peer_owner import is_owned_by_me
from src.remote.testing.gateways import served_gateway
from src.remote.testing.memory_executor import MemoryExecutor

KEY = "k3y-0f-a-test"
ECHO = TinyAction(arguments=("/bin/sh", "-c", "echo printed"), properties={})


@contextmanager
def encrypted_server(certificates: Path, executor: MemoryExecutor) -> Iterator[Endpoint]:
    """Serves with TLS and requires the key; yields the endpoint with both."""
    certificate = make_certificate(certificates)
    with served_gateway(executor, properties={}, key=KEY, credentials=certificate.credentials) as address:
        yield Endpoint(url=f"grpcs://{address}", headers={KEY_HEADER: KEY}, certificate=certificate.path.read_bytes())


@contextmanager
def relayed(endpoint: Endpoint) -> Iterator[str]:
    handler = Relay(endpoint, activity=Activity())
    server, port = listen(handler, port=0)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        handler.close()


def test_a_client_without_tls_and_key_reaches_a_server_that_requires_both(tmp_path: Path) -> None:
    executor = MemoryExecutor()
    with encrypted_server(tmp_path, executor) as endpoint, relayed(endpoint) as url:
        outcome = RemoteClient(Endpoint(url=url)).run(ECHO, seconds=10)
    assert (outcome.exit_code, outcome.stdout) == (0, "printed\n")


def test_the_caller_gets_the_servers_error(tmp_path: Path) -> None:
    with encrypted_server(tmp_path, MemoryExecutor()) as endpoint:
        wrong = Endpoint(url=endpoint.url, headers={KEY_HEADER: "wrong"}, certificate=endpoint.certificate)
        with relayed(wrong) as url, pytest.raises(RemoteError, match="UNAUTHENTICATED: the header x-nativelink"):
            RemoteClient(Endpoint(url=url)).capabilities(seconds=5)


def test_a_server_with_an_untrusted_certificate_is_not_called(tmp_path: Path) -> None:
    executor = MemoryExecutor()
    with encrypted_server(tmp_path, executor) as endpoint:
        without_ca = Endpoint(url=endpoint.url, headers=endpoint.headers)
        with relayed(without_ca) as url, pytest.raises(RemoteError):
            RemoteClient(Endpoint(url=url)).capabilities(seconds=3)
    assert executor.headers == []


def test_only_its_own_user_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = MemoryExecutor()
    with encrypted_server(tmp_path, executor) as endpoint, relayed(endpoint) as url:
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises(RemoteError, match="PERMISSION_DENIED"):
            RemoteClient(Endpoint(url=url)).capabilities(seconds=5)
    assert executor.headers == []


def test_a_connection_belongs_to_the_user_that_opened_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            peer = f"ipv4:127.0.0.1:{client.getsockname()[1]}"
            assert is_owned_by_me(peer, port=port)
            assert not is_owned_by_me(peer, port=port - 1)
        assert not is_owned_by_me("ipv4:127.0.0.1:1", port=port)
        assert not is_owned_by_me("unix:", port=port)


def test_where_no_table_of_sockets_tells_the_owner_nobody_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            monkeypatch.setattr(peer_owner, "_TABLES", (tmp_path / "tcp6", tmp_path / "tcp"))
            assert not is_owned_by_me(f"ipv4:127.0.0.1:{client.getsockname()[1]}", port=port)


def test_where_no_relay_is_needed_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    (tmp_path / "user.bazelrc").write_text("build:remote --remote_executor=grpc://127.0.0.1:1\n")
    assert relay.main([]) == 2
    error = capsys.readouterr().err
    assert "bazel run //src/remote:configure says whether one is needed" in error
    assert error.count("\n") == 1


def test_the_program_serves_until_it_is_stopped(tmp_path: Path) -> None:
    with (
        encrypted_server(tmp_path / "tls", MemoryExecutor()) as endpoint,
        socket.create_server(("127.0.0.1", 0)) as free_socket,
    ):
        port = free_socket.getsockname()[1]
        free_socket.close()
        lines = [
            f"build:remote --remote_executor=grpc://127.0.0.1:{port}",
            f"build:remote-upstream --remote_executor={endpoint.url}",
            f"build:remote-upstream --tls_certificate={tmp_path / 'tls' / 'certificate.pem'}",
            f"# {KEY_HEADER}: {KEY}",
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
            outcome = RemoteClient(Endpoint(url=f"grpc://127.0.0.1:{port}")).run(ECHO, seconds=60)
            assert outcome.stdout == "printed\n"
        finally:
            program.send_signal(signal.SIGINT)
            output, _ = program.communicate(timeout=60)
    assert (program.returncode, output.endswith("relay: stopped\n")) == (0, True)
    assert KEY not in output
