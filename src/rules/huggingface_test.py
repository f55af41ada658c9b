"""hub_model() in a small workspace with a Bazel of its own, against a hub on loopback, a mirror and the hub's cache."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from src.disk.durable import file_sha256
from src.training.testing.loopback_hub import LoopbackHub, serving

_BAZEL = shutil.which("bazel-4")
_COMMIT = "c" * 40
_TOKEN = "hf_s3cret"
# Name of the repository -> the repo, where it is to be found: at the hub, at a mirror, in the hub's cache.
_PLACES = {"gated": "org/gated", "mirrored": "org/mirrored", "cached": "org/cached"}

pytestmark = pytest.mark.skipif(_BAZEL is None, reason="needs the Bazel of the air-gapped lane")

Fetch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    for name in ("workspace/rules", "home"):
        (folder / name).mkdir(parents=True)
    (folder / "workspace/rules/BUILD").touch()
    shutil.copy(Path(__file__).parent / "huggingface.bzl", folder / "workspace/rules")
    for name, repo in _PLACES.items():
        at = {
            "gated": folder / "hub",
            "mirrored": folder / "mirror" / repo / "resolve" / _COMMIT,
            "cached": folder / "home/hub/models--org--cached/snapshots" / _COMMIT,
        }[name]
        (at / "tokenizer").mkdir(parents=True)
        (at / "config.json").write_text(f'{{"of": "{name}"}}')
        (at / "tokenizer/vocab.txt").write_text(f"words of {name}")
        (at / "model.safetensors").write_text(f"weights of {name}")
    (folder / "home/token").write_text(f"{_TOKEN}\n")
    return folder


@pytest.fixture(scope="module")
def fetch(place: Path) -> Iterator[Fetch]:
    command = [str(_BAZEL), f"--output_user_root={place / 'out'}", "--host_jvm_args=-Xmx200m", "--max_idle_secs=60"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(place / "home"), "HF_HOME": str(place / "home")}

    def run(workspace: str, *labels: str, endpoint: str) -> subprocess.CompletedProcess[str]:
        load = 'load("//rules:huggingface.bzl", "hub_dataset", "hub_model")\n'
        (place / "workspace/WORKSPACE").write_text(load + workspace)
        return subprocess.run(
            [*command, "fetch", *labels, f"--repository_cache={place / 'repository-cache'}"],
            cwd=place / "workspace", env={**environment, "HF_ENDPOINT": endpoint}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    yield run
    subprocess.run([*command, "shutdown"], cwd=place / "workspace", env=environment, capture_output=True, check=False)


def call(name: str, folder: Path, **attributes: object) -> str:
    files = {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}
    given = {"name": name, "repo": f"org/{name}", "commit": _COMMIT, "files": files, **attributes}
    return f"hub_model({', '.join(f'{key} = {value!r}' for key, value in given.items())})\n"


def test_files_come_from_hub_mirror_and_cache_and_the_token_stays_with_the_hub(place: Path, fetch: Fetch) -> None:
    repositories = {"models/org/gated": (_COMMIT, place / "hub")}
    large = LoopbackHub(repositories)
    with serving(large) as large_at:
        hub = LoopbackHub(repositories, token=_TOKEN, large_at=large_at)
        with serving(hub) as endpoint:
            workspace = call("gated", place / "hub")
            mirrored = place / "mirror/org/mirrored/resolve" / _COMMIT
            workspace += call("mirrored", mirrored, mirrors=[f"file://{place / 'mirror'}"])
            workspace += call("cached", place / "home/hub/models--org--cached/snapshots" / _COMMIT)
            done = fetch(workspace, *(f"@{name}//:model" for name in _PLACES), endpoint=endpoint)
    assert done.returncode == 0, done.stderr
    [external] = (place / "out").glob("*/external")
    for name in _PLACES:
        assert (external / name / "model.safetensors").read_text() == f"weights of {name}"
        assert (external / name / "tokenizer/vocab.txt").read_text() == f"words of {name}"
    assert {path.split("/")[2] for path in hub.requests} == {"gated"}
    assert len(large.requests) == 1 and set(large.authorizations) == {None}
    written = [path for path in (place / "out").rglob("*") if path.is_file() and not path.is_symlink()]
    assert written and not [path for path in written if _TOKEN.encode() in path.read_bytes()]
    assert _TOKEN not in done.stdout + done.stderr


def test_other_bytes_than_pinned_are_refused(place: Path, fetch: Fetch) -> None:
    with serving(LoopbackHub({"models/org/moved": (_COMMIT, place / "hub")})) as endpoint:
        refused = fetch(
            call("moved", place / "hub", files={"config.json": "0" * 64}), "@moved//:model", endpoint=endpoint
        )
    assert refused.returncode != 0
    assert f"Checksum was {file_sha256(place / 'hub/config.json')} but wanted {'0' * 64}" in refused.stderr


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"commit": "main"}, "commit of org/odd has to be 40 hexadecimal digits, as a branch may move"),
        ({"files": {"config.json": ""}}, "'config.json' has no sha256 of 64 hexadecimal digits"),
        ({"files": {"sub/BUILD": "0" * 64}}, "files of org/odd: 'sub/BUILD' cannot be one"),
        ({"files": {"../config.json": "0" * 64}}, "files of org/odd: '../config.json' cannot be one"),
    ],
)
def test_what_pins_nothing_is_refused(place: Path, fetch: Fetch, attributes: dict[str, object], words: str) -> None:
    refused = fetch(call("odd", place / "hub", **attributes), "@odd//:model", endpoint="http://127.0.0.1:9")
    assert refused.returncode != 0 and words in refused.stderr
