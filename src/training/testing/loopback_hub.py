"""A hub on loopback with the few answers that loading a pinned model and dataset needs: what tests load from."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


# Kept in Git LFS, as the hub does with them.
_LARGE = {".bin", ".gguf", ".parquet", ".safetensors"}
_MOVED = "resolve-cache"


class LoopbackHub:
    """Serves folders as repositories, each at one commit.

    Attributes:
        requests: requested paths, in order.
        authorizations: the Authorization header of each request.
    """

    def __init__(
        self, repositories: dict[str, tuple[str, Path]], *, token: str | None = None, large_at: str | None = None
    ) -> None:
        """Takes (commit, folder) by `models/NAME` or `datasets/NAME`.

        Args:
            repositories: by kind and name.
            token: without which nothing is served.
            large_at: address of another hub. Large files are then redirected to it, small ones to another address here,
                as the hub does.
        """
        self.repositories = repositories
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self._token = token
        self._large_at = large_at

    def answer(self, path: str, authorization: str | None = None) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers and body for a path."""
        self.requests.append(path)
        self.authorizations.append(authorization)
        if self._token is not None and authorization != f"Bearer {self._token}":
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if self._large_at is not None and "resolve" in parts:
            is_large = Path(parts[-1]).suffix in _LARGE
            return 307, {"Location": f"{self._large_at}{path}" if is_large else path.replace("resolve", _MOVED)}, b""
        if parts[0] == "api":
            return self._api(parts[1:])
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        for way in {"resolve", "raw", _MOVED} & set(parts):
            at = parts.index(way)
            if way == "raw" and Path(parts[-1]).suffix in _LARGE:
                return 200, {}, b"version https://git-lfs.github.com/spec/v1\n"
            return self._file(f"{kind}/{'/'.join(parts[:at])}", "/".join(parts[at + 2 :]))
        return 404, {}, b"{}"

    def _api(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
        name = next((name for name in self.repositories if "/".join(parts).startswith(name)), None)
        if name is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        commit, folder = self.repositories[name]
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        action = parts[len(name.split("/")) :]
        if action[:1] == ["tree"]:
            return self._tree(folder, "/".join(action[2:]))
        if action[:1] == ["paths-info"]:
            return _json([self._entry(folder, file) for file in files])
        info = {
            "id": name.partition("/")[2],
            "sha": commit,
            "private": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [_sibling(folder, file) for file in files],
        }
        return _json(info)

    def _tree(self, folder: Path, below: str) -> tuple[int, dict[str, str], bytes]:
        if not (folder / below).is_dir():
            return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        children = sorted((folder / below).iterdir())
        files = [self._entry(folder, str(path.relative_to(folder))) for path in children if path.is_file()]
        folders = [
            {"type": "directory", "path": str(path.relative_to(folder)), "oid": "0" * 40}
            for path in children
            if path.is_dir()
        ]
        return _json([*folders, *files])

    def _entry(self, folder: Path, file: str) -> dict[str, object]:
        content = (folder / file).read_bytes()
        return {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _file(self, name: str, file: str) -> tuple[int, dict[str, str], bytes]:
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commit, folder = self.repositories[name]
        path = folder / file
        if not path.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        content = path.read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}, content


def _sibling(folder: Path, file: str) -> dict[str, object]:
    content = (folder / file).read_bytes()
    large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    lfs = {"lfs": large} if Path(file).suffix in _LARGE else {}
    return {"rfilename": file, "size": len(content), "blobId": hashlib.sha1(content).hexdigest(), **lfs}


def _json(document: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


@contextmanager
def serving(hub: LoopbackHub) -> Iterator[str]:
    """Serves a hub; yields its address for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet: the test looks at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
