"""docker/make_certificates.sh: a client's certificate opens the clients' ports, and no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import pytest

from src.remote.reapi.client import Endpoint, RemoteClient, RemoteError
from src.remote.testing.gateways import served_gateway
from src.remote.testing.memory_executor import MemoryExecutor

SCRIPT = Path(__file__).parents[3] / "docker" / "make_certificates.sh"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certificates"
    done = make(str(folder), "build.example", "10.0.0.7")
    assert done.returncode == 0, done.stderr
    assert f"NATIVELINK_TLS_CLIENT_KEY={folder}/client/key.pem" in done.stdout
    return folder


@pytest.mark.parametrize(
    ("port", "owner", "admitted"),
    [("clients_ca", "client", True), ("clients_ca", "worker", False), ("ca", "worker", True), ("ca", "client", False)],
)
def test_each_port_takes_the_certificates_of_its_own_authority(
    certificates: Path, port: str, owner: str, admitted: bool
) -> None:
    server = certificates / "cas"
    pair = ((server / "key.pem").read_bytes(), (server / "certificate.pem").read_bytes())
    authority = (server / f"{port}.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    own = certificates / owner
    with served_gateway(MemoryExecutor(), properties={}, credentials=credentials) as address:
        client = RemoteClient(
            Endpoint(
                url=f"grpcs://{address}",
                certificate=(own / "ca.pem").read_bytes(),
                client_certificate=((own / "certificate.pem").read_bytes(), (own / "key.pem").read_bytes()),
            )
        )
        try:
            if admitted:
                assert client.capabilities(seconds=5).execution_capabilities.exec_enabled
            else:
                with pytest.raises(RemoteError):
                    client.capabilities(seconds=5)
        finally:
            client.close()


def test_a_server_is_known_by_the_names_that_were_given(certificates: Path) -> None:
    command = ["openssl", "x509", "-noout", "-text", "-in", str(certificates / "scheduler" / "certificate.pem")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Version: 3" in text and "TLS Web Client Authentication" in text
    names = "DNS:scheduler, DNS:localhost, IP Address:127.0.0.1, DNS:build.example, IP Address:10.0.0.7"
    assert names in text


def test_keys_are_closed_to_other_users_and_open_to_the_container_that_mounts_their_folder(certificates: Path) -> None:
    for folder in (certificates, certificates / "authorities", certificates / "client"):
        assert folder.stat().st_mode & 0o077 == 0
    assert (certificates / "cas" / "key.pem").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "name the folder"), (["{folder}"], "exists"), (["{folder}/new", "a b"], "neither a host name")],
)
def test_a_wrong_request_is_one_sentence_and_makes_nothing(
    certificates: Path, arguments: list[str], message: str
) -> None:
    done = make(*[argument.format(folder=certificates) for argument in arguments])
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (certificates / "new").exists()
