"""A registry on loopback that serves one image, stored as an OCI layout, to the runners of this user."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from src.remote.serving.peer_owner import is_owned_by_me

_MAX_SILENCE_SECONDS = 60
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def manifest_digest(layout: Path) -> str:
    """Returns the digest (sha256:...) of the manifest of an OCI layout with one image.

    Raises:
        OSError: there is no layout.
        ValueError: it is not a layout, or does not hold exactly one image.
    """
    manifests = json.loads((layout / "index.json").read_text(encoding="utf-8")).get("manifests", [])
    if len(manifests) != 1:
        raise ValueError(f"{layout} holds {len(manifests)} images, not one")
    return str(manifests[0]["digest"])


class ImageRegistry:
    """A read-only registry of one image."""

    def __init__(self, layout: Path, *, port: int) -> None:
        """Binds a port on 127.0.0.1; `start` begins to serve.

        Args:
            layout: the folder of the image.
            port: used if it is free, otherwise any. The port is part of the image's reference, and a runner that knows
                a reference does not pull the image again.
        """
        self._manifest = manifest_digest(layout)
        handler = _handler(layout, self._manifest)
        try:
            self._server = _OwnUserServer(("127.0.0.1", port), handler)
        except OSError:
            self._server = _OwnUserServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def reference(self) -> str:
        """The reference by which a runner pulls the image."""
        return f"docker://127.0.0.1:{self._server.server_port}/finetune-repo-executor@{self._manifest}"

    def start(self) -> None:
        """Serves in a background thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


class _OwnUserServer(ThreadingHTTPServer):
    """Closes the connections of other users of this machine."""

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether a connection is served."""
        del request
        host, port = client_address if isinstance(client_address, tuple) else ("", 0)
        return is_owned_by_me(f"ipv4:{host}:{port}", port=self.server_port)


def _handler(layout: Path, manifest: str) -> type[BaseHTTPRequestHandler]:
    blobs = {f"sha256:{path.name}": path for path in (layout / "blobs" / "sha256").iterdir()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Each connection has a thread.
        timeout = _MAX_SILENCE_SECONDS

        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            """Serves /v2/, manifests and blobs."""
            parts = self.path.partition("?")[0].rstrip("/").split("/")
            if parts == ["", "v2"]:
                self._answer(200)
                return
            blob = blobs.get(parts[-1])
            if blob is None or parts[-2] not in ("blobs", "manifests"):
                self._answer(404)
                return
            self._answer(200, size=blob.stat().st_size, digest=parts[-1])
            if self.command == "GET":
                with blob.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)

        do_HEAD = do_GET

        def _answer(self, status: int, *, size: int = 0, digest: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", _MANIFEST_TYPE if digest == manifest else "application/octet-stream")
            self.send_header("Content-Length", str(size))
            if digest is not None:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing: the executor's log is for people."""

    return Handler
