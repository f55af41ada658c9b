"""A certificate for 127.0.0.1 that signs itself, made anew at each start: clients can verify TLS on one machine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc

from src.cli.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key. `path` is what a client has to trust."""

    path: Path
    key_path: Path

    @property
    def credentials(self) -> grpc.ServerCredentials:
        """What a server needs."""
        return grpc.ssl_server_credentials([(self.key_path.read_bytes(), self.path.read_bytes())])


def make_certificate(folder: Path) -> Certificate:
    """Makes one that holds for a week.

    Raises:
        RequestError: there is no openssl, or it fails.
    """
    if shutil.which("openssl") is None:
        raise RequestError("--tls needs openssl to make a certificate: install Debian's package openssl")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Certificate(path=folder / "certificate.pem", key_path=folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "7", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    done = subprocess.run(
        [*command, "-keyout", str(made.key_path), "-out", str(made.path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RequestError(f"openssl made no certificate: {done.stderr.strip().splitlines()[-1]}")
    made.key_path.chmod(0o600)
    return made
