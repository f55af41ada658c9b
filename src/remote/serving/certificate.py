"""A self-signed certificate for 127.0.0.1, made at each start: clients can verify TLS on one machine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc

from src.cli.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key. `path` is the file that a client has to trust."""

    path: Path
    key_path: Path

    @property
    def credentials(self) -> grpc.ServerCredentials:
        """The credentials for a gRPC server."""
        return grpc.ssl_server_credentials([(self.key_path.read_bytes(), self.path.read_bytes())])


def make_certificate(folder: Path) -> Certificate:
    """Makes a certificate that is valid for a week.

    Raises:
        RequestError: openssl is missing or fails.
    """
    if shutil.which("openssl") is None:
        raise RequestError("--tls needs openssl to make a certificate: install the package openssl")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate = Certificate(path=folder / "certificate.pem", key_path=folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "7", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    done = subprocess.run(
        [*command, "-keyout", str(certificate.key_path), "-out", str(certificate.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RequestError(f"openssl could not make a certificate: {done.stderr.strip().splitlines()[-1]}")
    certificate.key_path.chmod(0o600)
    return certificate
