"""Whether the default recipe can be had: a hub that answers, one that does not, and its cache."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from src.training.environment import hub
from src.training.environment.hub import hub_has

RECIPE = {
    "model_name_or_path": "some/model",
    "model_revision": "0" * 40,
    "model_weights_sha256": "f" * 64,
    "dataset_name": "some/data",
    "dataset_config_name": "en",
    "dataset_revision": "1" * 40,
}


class Hub(BaseHTTPRequestHandler):
    """Answers every question with its status, and counts them."""

    status = 200
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serving(status: int) -> Iterator[tuple[str, type[Hub]]]:
    """A hub on the loopback interface: its address, and its handler."""
    handler = type("Answering", (Hub,), {"status": status, "requests": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def offline_with_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing cached and nobody listening, unless a test says otherwise; no proxy stands between."""
    from huggingface_hub import constants

    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # What the code under test sets is put back; what it remembers of another test's hub is forgotten.
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.go_offline_unless_reachable.cache_clear()


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_hub_that_answers_anything_can_be_asked(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(status) as (address, handler):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert hub_has(RECIPE)
        assert handler.requests == 1


def test_without_hub_and_cache_the_recipe_cannot_be_had() -> None:
    assert not hub_has(RECIPE)


def test_an_endpoint_that_is_no_address_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "nonsense")
    assert not hub_has(RECIPE)


def test_the_hub_is_not_asked_where_the_user_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(200) as (address, handler):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert not hub_has(RECIPE)
        assert handler.requests == 0


def test_something_that_does_not_speak_http_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def greet(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, args=(server,), daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not hub_has(RECIPE)


def test_a_cache_with_model_and_dataset_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--some--model" / "snapshots" / RECIPE["model_revision"]
    snapshot.mkdir(parents=True)
    for name in ("config.json", "pytorch_model.bin"):
        (snapshot / name).write_text("{}")
    monkeypatch.setattr(hub, "_dataset_is_cached", lambda _: True)
    assert hub_has(RECIPE)
    monkeypatch.setattr(hub, "_dataset_is_cached", lambda _: False)
    assert not hub_has(RECIPE)
    monkeypatch.setattr(hub, "_dataset_is_cached", lambda _: True)
    (snapshot / "pytorch_model.bin").unlink()
    assert not hub_has(RECIPE)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hub.go_offline_unless_reachable()
    with serving(200) as (address, handler):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert not hub.go_offline_unless_reachable()
        assert handler.requests == 0
