"""A config is read as Bazel reads it: nested, in order, the last value wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.remote.config.bazelrc import read_config

BAZELRC = """\
build --remote_instance_name=main # a comment
build:shared --remote_header=x-a=1
build:remote --config=shared
build:remote --remote_executor=grpc://first.invalid:1 --remote_exec_header=x-b=2
run:remote --remote_executor=grpc://other.invalid
"""


def test_user_bazelrc_takes_precedence_and_headers_accumulate(tmp_path: Path) -> None:
    (tmp_path / ".bazelrc").write_text(BAZELRC)
    (tmp_path / "user.bazelrc").write_text(
        "# x-nativelink-api-key: secret\nbuild:remote --remote_executor=grpcs://far\n"
    )
    endpoint = read_config(tmp_path, "remote", overrides=[]).endpoint("remote_executor")
    assert endpoint is not None
    assert (endpoint.address, endpoint.is_encrypted, endpoint.instance) == ("far:443", True, "main")
    assert endpoint.headers == {"x-a": "1", "x-b": "2", "x-nativelink-api-key": "secret"}
    assert "secret" not in repr(endpoint)


def test_flags_of_the_command_line_take_precedence(tmp_path: Path) -> None:
    (tmp_path / ".bazelrc").write_text(BAZELRC)
    overrides = ["--remote_executor=grpc://127.0.0.1:7", "--bes_backend="]
    config = read_config(tmp_path, "remote", overrides=overrides)
    endpoint = config.endpoint("remote_executor")
    assert endpoint is not None
    assert endpoint.address == "127.0.0.1:7"
    assert config.endpoint("bes_backend") is None
    assert config.endpoint("remote_cache") is None


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nowhere", [], "has a config nowhere"),
        ("remote", ["remote_executor=x"], "is not a Bazel flag"),
        ("remote", ["--executor=grpc://x"], "--executor would have no effect .did you mean remote_executor"),
        ("remote", ["--jobs=3"], "--jobs would have no effect: see --help"),
        ("loop", [], "the config loop refers to itself"),
        ("remote", ["--tls_certificate=/nowhere.pem"], "cannot be read"),
        ("remote", ["--remote_executor=unix:/socket"], "only grpc:// and grpcs://"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, name: str, overrides: list[str], message: str) -> None:
    (tmp_path / ".bazelrc").write_text(BAZELRC + "build:loop --config=loop\n")
    with pytest.raises(RequestError, match=message):
        read_config(tmp_path, name, overrides=overrides).endpoint("remote_executor")
