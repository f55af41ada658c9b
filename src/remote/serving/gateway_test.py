"""The gateway allows calls with the key, runs actions that a worker matches, and refuses or queues the others."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from src.remote.config.endpoints import KEY_HEADER
from src.remote.reapi import messages
from src.remote.reapi.client import Endpoint, NoWorkerError, RemoteClient, RemoteError, TinyAction
from src.remote.serving import loopback
from src.remote.testing.gateways import served_gateway
from src.remote.testing.memory_executor import MemoryExecutor

IMAGE = "docker://127.0.0.1:1/image@sha256:0"
PROPERTIES = {"OSFamily": "linux", "container-image": "docker://ours:1", "cpu_count": "2"}
ECHO = TinyAction(
    arguments=("/bin/sh", "-c", "echo printed; echo written > out"), properties=PROPERTIES, outputs=("out",)
)


@contextmanager
def gateway(executor: MemoryExecutor, *, key: str | None = None, queue_unmatched: bool = False) -> Iterator[str]:
    """Serves a gateway that offers PROPERTIES; yields its URL."""
    with served_gateway(
        executor, properties=PROPERTIES, image=IMAGE, key=key, queue_unmatched=queue_unmatched
    ) as address:
        yield f"grpc://{address}"


def client(url: str, *, key: str | None = None) -> RemoteClient:
    return RemoteClient(Endpoint(url=url, headers={} if key is None else {KEY_HEADER: key}))


def test_an_action_runs_in_the_image_that_its_name_resolves_to() -> None:
    executor = MemoryExecutor()
    with gateway(executor) as url:
        outcome = client(url).run(ECHO, seconds=60)
    assert (outcome.exit_code, outcome.stdout, outcome.output_paths) == (0, "printed\n", ("out",))
    [(action, command)] = executor.actions
    assert messages.properties_of(command, action) == {"container-image": IMAGE}


def test_outputs_in_the_fields_of_version_2_0_come_back() -> None:
    executor = MemoryExecutor()
    command = messages.Command(arguments=["/bin/sh", "-c", "echo 1 > out"], output_files=["out"])
    command.platform.CopyFrom(messages.platform_of(PROPERTIES))
    action = messages.Action(command_digest=messages.digest_of(command.SerializeToString()))
    request = messages.ExecuteRequest(action_digest=messages.digest_of(action.SerializeToString()))
    for message in (command, action):
        executor.blobs[messages.digest_of(message.SerializeToString()).hash] = message.SerializeToString()
    with gateway(executor) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        [answer] = channel.unary_stream(messages.EXECUTE)(request.SerializeToString())
    response = messages.ExecuteResponse.FromString(messages.Operation.FromString(answer).response.value)
    assert [file.path for file in response.result.output_files] == ["out"]
    # A client looks up its own digest, not that of the rewritten action.
    assert list(executor.results) == [request.action_digest.hash]


@pytest.mark.parametrize(("command", "cached"), [("true", 1), ("false", 0)])
def test_only_a_successful_result_is_cached(command: str, cached: int) -> None:
    executor = MemoryExecutor()
    message = messages.Command(arguments=[command])
    action = messages.Action(command_digest=messages.digest_of(message.SerializeToString()))
    for each in (message, action):
        executor.blobs[messages.digest_of(each.SerializeToString()).hash] = each.SerializeToString()
    request = messages.ExecuteRequest(action_digest=messages.digest_of(action.SerializeToString()))
    with gateway(executor) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        list(channel.unary_stream(messages.EXECUTE)(request.SerializeToString()))
    assert len(executor.results) == cached


@pytest.mark.parametrize("key", [None, "wrong", ""])
def test_a_wrong_key_is_refused_at_every_method(key: str | None) -> None:
    executor = MemoryExecutor()
    with gateway(executor, key="right") as url:
        with pytest.raises(RemoteError, match=f"UNAUTHENTICATED: the header {KEY_HEADER}"):
            client(url, key=key).capabilities(seconds=5)
        with pytest.raises(RemoteError, match="UNAUTHENTICATED"):
            client(url, key=key).run(ECHO, seconds=5)
    assert executor.actions == []
    assert executor.blobs == {}


@pytest.mark.parametrize("key", [None, "right"])
def test_another_user_is_refused_at_every_method_with_and_without_a_key(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = MemoryExecutor()
    with gateway(executor, key=key) as url:
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises(RemoteError, match="PERMISSION_DENIED: this server serves only the user who runs it"):
            client(url, key=key).capabilities(seconds=5)
        with pytest.raises(RemoteError, match="PERMISSION_DENIED"):
            client(url, key=key).run(ECHO, seconds=5)
        update = messages.UpdateActionResultRequest(action_digest=messages.digest_of(b"a")).SerializeToString()
        with (
            grpc.insecure_channel(url.removeprefix("grpc://")) as channel,
            pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"),
        ):
            channel.unary_unary(messages.UPDATE_ACTION_RESULT)(update)
    assert (executor.actions, executor.blobs, executor.results, executor.headers) == ([], {}, {}, [])


def test_the_right_key_is_allowed_and_not_forwarded() -> None:
    executor = MemoryExecutor()
    with gateway(executor, key="right") as url:
        capabilities = client(url, key="right").capabilities(seconds=5)
    assert capabilities.low_api_version.minor == 0
    assert KEY_HEADER not in executor.headers
    assert executor.headers


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "container-image",
            "docker://ours:2",
            "container-image=docker://ours:2: workers have container-image=docker://ours:1",
        ),
        ("cpu_count", "3", "cpu_count=3: each has 2"),
        ("gpu", "1", "has the property gpu"),
    ],
)
def test_a_property_that_no_worker_has_is_refused_and_named(name: str, value: str, message: str) -> None:
    executor = MemoryExecutor()
    action = TinyAction(arguments=("true",), properties={**PROPERTIES, name: value})
    with gateway(executor) as url, pytest.raises(RemoteError, match=message):
        client(url).run(action, seconds=5)
    assert executor.actions == []


def test_a_worker_with_more_cpus_than_requested_matches() -> None:
    with gateway(MemoryExecutor()) as url:
        action = TinyAction(arguments=("true",), properties={"cpu_count": "1"})
        assert client(url).run(action, seconds=10).exit_code == 0


def test_unmatched_actions_queue_as_they_do_with_nativelink() -> None:
    action = TinyAction(arguments=("true",), properties={"container-image": "docker://mistyped:1"})
    with gateway(MemoryExecutor(), queue_unmatched=True) as url, pytest.raises(NoWorkerError, match="within 1 seconds"):
        client(url).run(action, seconds=1)


def test_a_missing_blob_is_an_error() -> None:
    request = messages.ExecuteRequest(action_digest=messages.digest_of(b"nothing"))
    with gateway(MemoryExecutor()) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        answers = channel.unary_stream(messages.EXECUTE)(request.SerializeToString())
        with pytest.raises(grpc.RpcError) as raised:
            next(itertools.chain(answers))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def idle_streams(channel: grpc.Channel, *, count: int, method: str = messages.EXECUTE) -> list[grpc.Call]:
    """Opens streams on which the client says nothing."""
    return [channel.stream_stream(method)(iter(threading.Event().wait, True)) for _ in range(count)]


def codes(calls: list[grpc.Call], *, seconds: float) -> set[grpc.StatusCode]:
    deadline = time.monotonic() + seconds
    while not all(call.done() for call in calls) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {call.code() for call in calls if call.done()} if all(call.done() for call in calls) else set()


@pytest.mark.parametrize("method", [messages.EXECUTE, messages.BATCH_UPDATE_BLOBS])
def test_streams_of_silent_clients_are_cancelled_and_the_server_goes_on(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback, "_MAX_SILENCE_SECONDS", 0.5)
    with gateway(MemoryExecutor()) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        # More than the server has threads.
        silent = idle_streams(channel, count=140, method=method)
        assert codes(silent, seconds=30) == {grpc.StatusCode.CANCELLED}
        assert client(url).run(ECHO, seconds=60).exit_code == 0


def test_streams_of_another_user_are_refused_before_they_say_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(MemoryExecutor()) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        with monkeypatch.context() as other:
            other.setattr(os, "getuid", lambda: 4711)
            assert codes(idle_streams(channel, count=140), seconds=30) == {grpc.StatusCode.PERMISSION_DENIED}
        assert client(url).run(ECHO, seconds=60).exit_code == 0
