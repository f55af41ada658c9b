"""The executor's image is built from docker/ and the lock, and served as a runner pulls it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from src.remote import prepare_executor
from src.remote.image import inputs, oci_layout, rootfs
from src.remote.reapi import messages
from src.remote.serving import build_events
from src.remote.serving.build_events import BuildEventSink
from src.remote.serving.image_registry import ImageRegistry, manifest_digest
from src.remote.testing.memory_executor import served


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A small image."""
    (tmp_path / "rootfs" / "bin").mkdir(parents=True)
    (tmp_path / "rootfs" / "bin" / "sh").write_text("a shell")
    oci_layout.pack(tmp_path / "rootfs", tmp_path / "layout")
    return tmp_path / "layout"


def test_the_same_files_give_the_same_image(layout: Path, tmp_path: Path) -> None:
    again = oci_layout.pack(tmp_path / "rootfs", tmp_path / "again")
    assert again == manifest_digest(layout)
    (tmp_path / "rootfs" / "bin" / "sh").write_text("another shell")
    assert oci_layout.pack(tmp_path / "rootfs", tmp_path / "third") != again


def test_an_ordinary_user_can_unpack_the_image(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs" / "file").touch()
    os.mkfifo(tmp_path / "rootfs" / "console")
    oci_layout.pack(tmp_path / "rootfs", tmp_path / "layout")
    layer = max((tmp_path / "layout" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    with tarfile.open(layer) as archive:
        assert archive.getnames() == [".", "./file"]


def test_a_runner_can_pull_every_blob_of_the_manifest(layout: Path) -> None:
    registry = ImageRegistry(layout, port=0)
    registry.start()
    try:
        scheme, _, rest = registry.reference.partition("://")
        host, _, name = rest.partition("/")
        base = f"http://{host}/v2/{name.partition('@')[0]}"
        assert scheme == "docker"
        assert urllib.request.urlopen(f"http://{host}/v2/").status == 200
        manifest = json.load(urllib.request.urlopen(f"{base}/manifests/{manifest_digest(layout)}"))
        for blob in [manifest["config"], *manifest["layers"]]:
            content = urllib.request.urlopen(f"{base}/blobs/{blob['digest']}").read()
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob["digest"]
        for path in (f"blobs/sha256:{'0' * 64}", "blobs/..%2f..%2findex.json", "manifests/latest", "tags/list"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{base}/{path}")
    finally:
        registry.stop()


def test_a_port_in_use_is_replaced_by_another(layout: Path) -> None:
    first = ImageRegistry(layout, port=0)
    port = int(first.reference.rpartition("127.0.0.1:")[2].partition("/")[0])
    second = ImageRegistry(layout, port=port)
    assert first.reference != second.reference


def test_the_image_has_the_packages_of_the_dockerfile_and_the_lock() -> None:
    assert {"python3", "zip", "file", "bash"} <= set(rootfs.debian_packages())
    locked = rootfs.DEBIAN_LOCK.read_text().splitlines()[1:]
    assert set(rootfs.debian_packages()) <= {line.split()[0] for line in locked}
    lock = (rootfs.ROOT / "bazel_requirements_lock.txt").read_text()
    torch, others = rootfs.split_lock(lock, omitted=["ruff"])
    assert torch.startswith("torch==2.13.0+cpu \\\n    --hash=sha256:")
    assert "\nruff==" in lock
    assert "ruff==" not in others
    assert "torch==" not in others.replace("pytorch", "")
    assert others.count("\nnumpy==") == 1


@pytest.mark.parametrize("problem", ["No matching distribution found for torch==2.13.0+cpu", "THESE DO NOT MATCH"])
def test_the_image_gets_pypis_torch_only_where_no_index_has_the_cpu_wheel(
    problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed: list[str] = []

    def pip(command: list[str | Path], *, why: str) -> str:
        requirements = Path(command[command.index("-r") + 1]).read_text()
        if "+cpu" in requirements:
            raise rootfs.BuildError(f"{why}: {problem}")
        installed.append(requirements)
        return ""

    monkeypatch.setattr(rootfs, "run", pip)
    if problem.startswith("No matching"):
        rootfs.install_packages(tmp_path / "packages")
        assert installed[0] == rootfs.CUDA_LOCK.read_text()
        assert "torch==" not in installed[1]
    else:
        with pytest.raises(rootfs.BuildError):
            rootfs.install_packages(tmp_path / "packages")
        assert installed == []


def test_the_image_is_rebuilt_when_one_of_its_inputs_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[Path] = []

    def build(target: Path, *, python: str, relock: bool) -> None:
        assert (python, relock) == (prepare_executor.read_platform().python, False)
        target.mkdir()
        (target / "file").write_text("x")
        built.append(target)

    monkeypatch.setattr(rootfs, "build_rootfs", build)
    for _ in range(2):
        prepare_executor.build_image(tmp_path / "image", relock=False)
    assert len(built) == 1
    assert inputs.is_of_these_inputs(tmp_path / "image")
    (tmp_path / "image" / inputs.STAMP).write_text("of an older lock")
    assert not inputs.is_of_these_inputs(tmp_path / "image")
    prepare_executor.build_image(tmp_path / "image", relock=False)
    assert len(built) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_failed_build_leaves_the_old_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, layout: Path) -> None:
    def fail(target: Path, *, python: str, relock: bool) -> None:
        raise rootfs.BuildError(f"no {target} for {python}, {relock}")

    monkeypatch.setattr(rootfs, "build_rootfs", fail)
    before = manifest_digest(layout)
    with pytest.raises(rootfs.BuildError):
        prepare_executor.build_image(layout, relock=False)
    assert manifest_digest(layout) == before
    assert not list(tmp_path.glob("*.partial"))


def test_the_image_is_served_to_its_own_user_alone(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ImageRegistry(layout, port=0)
    registry.start()
    try:
        url = f"http://{registry.reference.removeprefix('docker://').partition('/')[0]}/v2/"
        assert urllib.request.urlopen(url).status == 200
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(url)
    finally:
        registry.stop()


@contextmanager
def event_sink(folder: Path) -> Iterator[grpc.StreamStreamMultiCallable]:
    """Serves build events into a folder; yields the method that takes them."""
    methods = BuildEventSink(folder).methods

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.stream_stream_rpc_method_handler(methods[handler_call_details.method])

    with served(Handler()) as address, grpc.insecure_channel(address) as channel:
        yield channel.stream_stream(messages.PUBLISH_EVENT_STREAM)


def event_requests(events: list[bytes], *, invocation: str = "1-2") -> Iterator[bytes]:
    for number, event in enumerate(events, start=1):
        request = messages.PublishBuildToolEventStreamRequest()
        request.ordered_build_event.sequence_number = number
        request.ordered_build_event.stream_id.invocation_id = invocation
        request.ordered_build_event.event.bazel_event.value = event
        yield request.SerializeToString()


def test_build_events_are_stored_as_bazel_writes_them(tmp_path: Path) -> None:
    events = [b"x" * 300, b"second"]
    with event_sink(tmp_path) as publish:
        answers = list(publish(event_requests(events)))
    numbers = [messages.PublishBuildToolEventStreamResponse.FromString(answer).sequence_number for answer in answers]
    assert numbers == [1, 2]
    [file] = tmp_path.iterdir()
    # 300 as a varint is 0xAC 0x02.
    assert file.read_bytes() == b"\xac\x02" + events[0] + b"\x06" + events[1]


@pytest.mark.parametrize("invocation", ["../escape", "x" * 5000, "", "\x1b[2J", "1-2"])
def test_no_client_names_the_file_of_its_build_events(
    tmp_path: Path, invocation: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with event_sink(tmp_path / "events") as publish:
        for _ in range(2):
            assert len(list(publish(event_requests([b"x"], invocation=invocation)))) == 1
    names = [path.name for path in tmp_path.rglob("*.bep")]
    assert len(names) == 2
    assert all(re.fullmatch(r"[0-9-]{10}_[0-9.]{8}_[0-9a-f]{8}\.bep", name) for name in names)
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_build_events_are_bounded_by_stream_and_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_events, "_MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(build_events, "_MAX_FOLDER_BYTES", 2500)
    with event_sink(tmp_path) as publish:
        for _ in range(5):
            # The build goes on: every event is acknowledged.
            assert len(list(publish(event_requests([b"x" * 400] * 5)))) == 5
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert max(sizes) <= 1000 + 5 * 2
    assert sum(sizes) <= 2500 + 1000


def test_only_so_many_streams_of_build_events_wait_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_events, "_MAX_STREAMS", 2)
    end = threading.Event()

    def waiting() -> Iterator[bytes]:
        yield from event_requests([b"x"])
        end.wait(120)

    with event_sink(tmp_path) as publish:
        first = [publish(waiting()) for _ in range(2)]
        assert all(next(call) for call in first)
        with pytest.raises(grpc.RpcError, match="2 builds send their events already"):
            list(publish(event_requests([b"x"])))
        end.set()
        assert [list(call) for call in first] == [[], []]
        assert len(list(publish(event_requests([b"x"])))) == 1
