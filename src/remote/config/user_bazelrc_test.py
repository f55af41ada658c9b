"""Each Bazel gets the servers from user.bazelrc in its own way, and no flag holds the key."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from src.remote.config.bazelrc import read_config
from src.remote.config.endpoints import SERVERS, UPSTREAM, Endpoints
from src.remote.config.user_bazelrc import Lane, flags, with_block, write_privately

REPOSITORY = Path(__file__).parents[3]
HELPER = REPOSITORY / "tools" / "online" / "credential_helper"
KEY = "k3y-0f-a-test-0123456789"
KEY_COMMENT = f"# x-nativelink-api-key: {KEY}"
CLOUD = Endpoints(
    cache="grpcs://cas.example", executor="grpcs://scheduler.example", bes="grpcs://bes.example", api_key=KEY
)


def configured(root: Path, endpoints: Endpoints, *, lane: Lane) -> list[str]:
    """Writes user.bazelrc beside the shared .bazelrc; returns its lines."""
    shutil.copy(REPOSITORY / ".bazelrc", root)
    lines = flags(endpoints, lane=lane, root=root)
    write_privately(root / "user.bazelrc", with_block("", lines))
    return lines


def test_on_bazel_8_no_flag_holds_the_key(tmp_path: Path) -> None:
    lines = configured(tmp_path, CLOUD, lane="online")
    assert [line for line in lines if KEY in line] == [KEY_COMMENT]


def test_bazel_8_gets_the_key_from_the_credential_helper(tmp_path: Path) -> None:
    (tmp_path / "tools/online").mkdir(parents=True)
    helper = shutil.copy(HELPER, tmp_path / "tools/online/")
    configured(tmp_path, CLOUD, lane="online")
    request = '{"uri": "https://cas.example"}'
    answer = subprocess.run([helper, "get"], input=request, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(answer.stdout) == {"headers": {"x-nativelink-api-key": [KEY]}}
    write_privately(tmp_path / "user.bazelrc", "")
    refused = subprocess.run([helper, "get"], input=request, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "bazel run //src/remote:configure" in refused.stderr


def test_debians_bazel_is_routed_through_the_relay_which_has_key_and_servers(tmp_path: Path) -> None:
    lines = configured(tmp_path, CLOUD, lane="airgap")
    config, upstream = (read_config(tmp_path, name, overrides=[]) for name in ("remote", UPSTREAM))
    relay_urls = set()
    for flag, service in (("remote_executor", "scheduler"), ("remote_cache", "cas"), ("bes_backend", "bes")):
        local, server = config.endpoint(flag), upstream.endpoint(flag)
        assert local is not None and server is not None
        assert (server.url, server.headers) == (f"grpcs://{service}.example", {"x-nativelink-api-key": KEY})
        # Another program on the relay's port would not get the key.
        assert (local.url.startswith("grpc://127.0.0.1:"), local.headers) == (True, {})
        relay_urls.add(local.url)
    assert len(relay_urls) == 3
    assert [line for line in lines if KEY in line] == [KEY_COMMENT]


def test_two_checkouts_have_separate_relays(tmp_path: Path) -> None:
    assert flags(CLOUD, lane="airgap", root=tmp_path / "a") != flags(CLOUD, lane="airgap", root=tmp_path / "b")


def test_a_cache_without_an_executor_is_relayed_too(tmp_path: Path) -> None:
    configured(tmp_path, Endpoints(cache="grpcs://cas.example"), lane="airgap")
    config = read_config(tmp_path, "remote", overrides=[])
    assert config.endpoint("remote_executor") is None
    assert config.endpoint("remote_cache") is not None


def test_debians_bazel_calls_servers_without_tls_and_key_directly(tmp_path: Path) -> None:
    plain = Endpoints(executor="grpc://127.0.0.1:50052")
    assert configured(tmp_path, plain, lane="airgap") == [f"build:{SERVERS} --remote_executor=grpc://127.0.0.1:50052"]


@pytest.mark.parametrize("lane", get_args(Lane))
@pytest.mark.parametrize("endpoints", [CLOUD, Endpoints(executor="grpc://127.0.0.1:50052")])
def test_together_with_the_shared_flags_each_server_is_set_once(
    tmp_path: Path, endpoints: Endpoints, lane: Lane
) -> None:
    # Bazel warns of a flag that is set twice, unless its values accumulate.
    lines = configured(tmp_path, endpoints, lane=lane)
    flags = read_config(tmp_path, "remote", overrides=[]).flags
    [executor] = flags["remote_executor"]
    assert f"build:{SERVERS} --remote_executor={executor}" in lines
    repeated = {name for name, values in flags.items() if len(values) > 1}
    assert repeated <= {"action_env", "test_env", "credential_helper"}


def test_without_configured_servers_the_shared_flags_name_a_config_that_says_what_to_run(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / ".bazelrc", tmp_path)
    lines = (tmp_path / ".bazelrc").read_text().splitlines()
    assert f"build:remote --config={SERVERS}" in lines
    # So Bazel refuses --config=remote, where it would otherwise build locally without a word.
    assert not any(line.startswith(f"build:{SERVERS} ") for line in lines)
    assert read_config(tmp_path, "remote", overrides=[]).endpoint("remote_executor") is None


def test_addresses_are_distinct() -> None:
    assert Endpoints(cache="grpc://a:1", executor="grpc://a:1").addresses() == ["grpc://a:1"]
