"""A finished model goes to a hub on loopback; a failure loses nothing, and the token is never told."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.environment.hub import go_offline_unless_reachable
from src.training.run.hub_upload import check_upload, upload

TOKEN = "hf_" + "s3cret" * 6


class Hub:
    """Takes one commit as the hub does: small files in it, weights before it.

    Attributes:
        files: content by path, once committed.
        fails_at: part of the path of requests that fail.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.fails_at = "\0"

    def answer(self, method: str, path: str, body: bytes, *, address: str, token: str | None) -> tuple[int, Any]:
        if self.fails_at in path:
            return 403, {"error": f"not for you, {TOKEN}"}
        if method == "PUT":
            self.large[hashlib.sha256(body).hexdigest()] = body
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "who are you?"}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "me"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return 200, {"url": f"{address}/me/{self.created['name']}"}
        if "/preupload/" in path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
            return 200, {
                "files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            }
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{address}/store/{item['oid']}"}}
            return 200, {"transfer": "basic", "objects": objects}
        if "/commit/" in path:
            for value in [json.loads(line) for line in body.splitlines()]:
                if value["key"] == "file":
                    self.files[value["value"]["path"]] = base64.b64decode(value["value"]["content"])
                if value["key"] == "lfsFile":
                    self.files[value["value"]["path"]] = self.large[value["value"]["oid"]]
            return 200, {"commitUrl": f"{address}/me/film/commit/{'a' * 40}", "commitOid": "a" * 40}
        return 404, {}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            address = f"http://{self.headers['Host']}"
            token = self.headers.get("Authorization")
            status, document = served.answer(self.command, self.path, body, address=address, token=token)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet."""

    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    go_offline_unless_reachable.cache_clear()
    yield served
    go_offline_unless_reachable.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    (folder / "adapter").mkdir(parents=True)
    for name in ("config.json", "README.md", "report.html", "model.safetensors", "adapter/adapter_config.json"):
        (folder / name).write_text(f"{name} " * 9)
    return folder


def test_all_of_a_folder_is_uploaded_but_the_page_with_texts_of_the_rows(hub: Hub, folder: Path) -> None:
    check_upload(None)
    assert upload(folder, None, private=True).endswith(f"/me/film/commit/{'a' * 40}")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"report.html"}
    assert hub.files == {name: (folder / name).read_bytes() for name in names}
    assert (hub.created["name"], hub.created["visibility"]) == ("film", "private")
    upload(folder, "me/other", private=False)
    assert hub.created["name"] == "other"


@pytest.mark.parametrize("step", ["/repos/create", "/preupload/", "/store/", "/commit/"])
def test_a_failed_upload_says_how_to_retry_and_not_the_token(
    hub: Hub, folder: Path, step: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.fails_at = step
    with caplog.at_level("DEBUG"), pytest.raises(OSError, match="complete in .* upload failed") as raised:
        upload(folder, "me/film", private=False)
    assert f"`hf upload me/film {folder} --exclude report.html`" in str(raised.value)
    written = capfd.readouterr()
    assert TOKEN not in str(raised.value) + caplog.text + written.out + written.err
    assert (folder / "model.safetensors").exists() and hub.files == {}
    hub.fails_at = "\0"
    upload(folder, "me/film", private=False)
    assert "model.safetensors" in hub.files


@pytest.mark.usefixtures("hub")
def test_who_cannot_upload_is_told_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"--push_to_hub: .*a b/c.*: correct --hub_model_id or HF_TOKEN"):
        check_upload("a b/c")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 6)
    with pytest.raises(RequestError, match=r"--push_to_hub: .*: correct --hub_model_id or HF_TOKEN") as raised:
        check_upload(None)
    assert "wrong" * 6 not in str(raised.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(RequestError, match="there is no token of the hub: set the environment variable HF_TOKEN"):
        check_upload(None)
    go_offline_unless_reachable.cache_clear()
    monkeypatch.setattr("src.training.environment.hub._answers", lambda _: False)
    with pytest.raises(RequestError, match="the hub is not reachable"):
        check_upload(None)
