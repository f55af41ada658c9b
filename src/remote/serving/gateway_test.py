"""The gateway lets in who has the key, runs what a worker fits, and says or waits where none does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from src.remote.end_to_end.memory_executor import MemoryExecutor, served
from src.remote.reapi import messages as reapi
from src.remote.reapi.client import Endpoint, NoWorkerError, RemoteClient, RemoteError, TinyAction
from src.remote.serving.admission import Offer
from src.remote.serving.gateway import Door, Gateway

PROPERTIES = {"OSFamily": "linux", "container-image": "docker://ours:1", "cpu_count": "2"}
ECHO = TinyAction(arguments=("/bin/sh", "-c", "echo said; echo made > made"), properties=PROPERTIES, outputs=("made",))


@contextmanager
def gateway(behind: MemoryExecutor, *, key: str | None = None, queue_strangers: bool = False) -> Iterator[str]:
    """Serves a gateway before a server; gives its address."""
    with served(behind) as upstream, grpc.insecure_channel(upstream) as channel:
        front = Gateway(
            upstream=channel,
            offer=Offer(properties=PROPERTIES, image="docker://127.0.0.1:1/image@sha256:0"),
            door=Door(header="x-key", key=key),
            queue_strangers=queue_strangers,
            own={},
        )
        with served(front) as address:
            yield f"grpc://{address}"
            front.stopping.set()


def client(url: str, **headers: str) -> RemoteClient:
    return RemoteClient(Endpoint(url=url, headers={name.replace("_", "-"): value for name, value in headers.items()}))


def test_an_action_runs_in_the_image_that_stands_behind_its_name() -> None:
    behind = MemoryExecutor()
    with gateway(behind) as url:
        outcome = client(url).run(ECHO, seconds=10)
    assert (outcome.exit_code, outcome.stdout, outcome.output_paths) == (0, "said\n", ("made",))
    [(action, command)] = behind.actions
    assert reapi.properties_of(command, action) == {"container-image": "docker://127.0.0.1:1/image@sha256:0"}


def test_outputs_named_in_the_way_of_version_2_0_come_back() -> None:
    behind = MemoryExecutor()
    command = reapi.Command(arguments=["/bin/sh", "-c", "echo 1 > made"], output_files=["made"])
    command.platform.CopyFrom(reapi.platform_of(PROPERTIES))
    action = reapi.Action(command_digest=reapi.digest_of(command.SerializeToString()))
    request = reapi.ExecuteRequest(action_digest=reapi.digest_of(action.SerializeToString()))
    for message in (command, action):
        behind.blobs[reapi.digest_of(message.SerializeToString()).hash] = message.SerializeToString()
    with gateway(behind) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        [answer] = channel.unary_stream(reapi.EXECUTE)(request.SerializeToString())
    response = reapi.ExecuteResponse.FromString(reapi.Operation.FromString(answer).response.value)
    assert [file.path for file in response.result.output_files] == ["made"]
    # A client asks the cache for the digest that it knows, not for that of the action that was rewritten.
    assert list(behind.kept) == [request.action_digest.hash]


@pytest.mark.parametrize(("command", "kept"), [("true", 1), ("false", 0)])
def test_only_what_ended_well_is_kept(command: str, kept: int) -> None:
    behind = MemoryExecutor()
    message = reapi.Command(arguments=[command])
    action = reapi.Action(command_digest=reapi.digest_of(message.SerializeToString()))
    for each in (message, action):
        behind.blobs[reapi.digest_of(each.SerializeToString()).hash] = each.SerializeToString()
    request = reapi.ExecuteRequest(action_digest=reapi.digest_of(action.SerializeToString()))
    with gateway(behind) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        list(channel.unary_stream(reapi.EXECUTE)(request.SerializeToString()))
    assert len(behind.kept) == kept


@pytest.mark.parametrize("headers", [{}, {"x_key": "wrong"}, {"x_key": ""}])
def test_a_wrong_key_is_refused_at_every_method(headers: dict[str, str]) -> None:
    behind = MemoryExecutor()
    with gateway(behind, key="right") as url:
        with pytest.raises(RemoteError, match="UNAUTHENTICATED: the header x-key"):
            client(url, **headers).capabilities(seconds=5)
        with pytest.raises(RemoteError, match="UNAUTHENTICATED"):
            client(url, **headers).run(ECHO, seconds=5)
    assert behind.actions == []
    assert behind.blobs == {}


def test_the_right_key_is_let_in_and_goes_no_further() -> None:
    behind = MemoryExecutor()
    with gateway(behind, key="right") as url:
        said = client(url, x_key="right").capabilities(seconds=5)
    assert said.low_api_version.minor == 0
    assert "x-key" not in behind.headers
    assert behind.headers


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "container-image",
            "docker://ours:2",
            "container-image=docker://ours:2: they have container-image=docker://ours:1",
        ),
        ("cpu_count", "3", "cpu_count=3: each has 2"),
        ("gpu", "1", "has the property gpu"),
    ],
)
def test_what_no_worker_has_is_refused_and_named(name: str, value: str, said: str) -> None:
    behind = MemoryExecutor()
    action = TinyAction(arguments=("true",), properties={**PROPERTIES, name: value})
    with gateway(behind) as url, pytest.raises(RemoteError, match=said):
        client(url).run(action, seconds=5)
    assert behind.actions == []


def test_a_worker_with_more_than_is_asked_for_fits() -> None:
    with gateway(MemoryExecutor()) as url:
        action = TinyAction(arguments=("true",), properties={"cpu_count": "1"})
        assert client(url).run(action, seconds=10).exit_code == 0


def test_strangers_wait_as_they_do_with_nativelink() -> None:
    action = TinyAction(arguments=("true",), properties={"container-image": "docker://mistyped:1"})
    with gateway(MemoryExecutor(), queue_strangers=True) as url, pytest.raises(NoWorkerError, match="within 1 seconds"):
        client(url).run(action, seconds=1)


def test_a_blob_that_is_missing_is_told() -> None:
    request = reapi.ExecuteRequest(action_digest=reapi.digest_of(b"nothing"))
    with gateway(MemoryExecutor()) as url, grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        answers = channel.unary_stream(reapi.EXECUTE)(request.SerializeToString())
        with pytest.raises(grpc.RpcError) as raised:
            next(itertools.chain(answers))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
