"""`pin` prints what the repository rule takes, by the hub's own answers."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from src.disk.durable import file_sha256
from src.rules.pin import chosen, main
from src.training.testing.loopback_hub import LoopbackHub, serving

COMMIT = "c" * 40
FILES = {
    "README.md": "a card",
    "config.json": "{}",
    "vocab.txt": "[PAD]",
    "model.safetensors": "weights",
    "pytorch_model.bin": "a pickle",
    "onnx/model.onnx": "other weights",
    "BUILD": "not a file of a model",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / name).write_text(content)
    return tmp_path / "repo"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: no token, no cache, and the hub is asked."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def set_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """As HF_ENDPOINT does, which huggingface_hub has read already."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def called(text: str) -> tuple[str, dict[str, Any]]:
    [expression] = ast.parse(text.strip()).body
    assert isinstance(expression, ast.Expr) and isinstance(expression.value, ast.Call)
    return ast.unparse(expression.value.func), {
        str(keyword.arg): ast.literal_eval(keyword.value) for keyword in expression.value.keywords
    }


def test_a_branch_becomes_a_commit_and_hashes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = LoopbackHub({"models/org/tiny.bert": (COMMIT, folder)}, token="s3cret")
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    with serving(hub) as endpoint:
        set_endpoint(monkeypatch, endpoint)
        assert main(["org/tiny.bert"]) == 0
    printed, errors = capsys.readouterr()
    rule, arguments = called(printed)
    files = {name: file_sha256(folder / name) for name in ("config.json", "model.safetensors", "vocab.txt")}
    assert rule == "hub_model"
    assert arguments == {"name": "tiny_bert", "repo": "org/tiny.bert", "commit": COMMIT, "files": files}
    downloaded = [path for path in hub.requests if "/resolve/" in path]
    assert downloaded and not [path for path in downloaded if "safetensors" in path], "the hub knows that hash"
    assert all(f"/resolve/{COMMIT}/" in path for path in downloaded), "a branch may move"
    assert "s3cret" not in printed + errors


def test_files_of_a_data_set_are_chosen_by_pattern(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sst2").mkdir()
    (folder / "sst2" / "train.parquet").write_text("rows")
    with serving(LoopbackHub({"datasets/org/glue": (COMMIT, folder)})) as endpoint:
        set_endpoint(monkeypatch, endpoint)
        assert main(["org/glue", "--dataset", "--files", "sst2/*", "--name", "glue_sst2"]) == 0
        rule, arguments = called(capsys.readouterr().out)
        assert main(["org/glue", "--dataset", "--files", "cola/*"]) == 2
    assert (rule, arguments["name"]) == ("hub_dataset", "glue_sst2")
    assert arguments["files"] == {"sst2/train.parquet": file_sha256(folder / "sst2" / "train.parquet")}
    assert "org/glue has no cola/*: choose with --files from BUILD, " in capsys.readouterr().err


@pytest.mark.parametrize("state", ["without it", "out of reach", "offline"])
def test_what_the_hub_does_not_serve_is_one_sentence(
    state: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(LoopbackHub({"models/org/tiny": (COMMIT, folder)})) as endpoint:
        set_endpoint(monkeypatch, "http://127.0.0.1:9" if state == "out of reach" else endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", state == "offline")
        assert main(["org/other"]) == 2
    printed, errors = capsys.readouterr()
    assert errors.startswith("pin: the hub does not serve the model org/other at main: ")
    assert errors.count("\n") == 1 and not printed


def test_pickles_are_taken_where_there_are_no_other_weights() -> None:
    assert chosen(["config.json", "pytorch_model.bin", "README.md"], is_dataset=False) == [
        "config.json",
        "pytorch_model.bin",
    ]


def test_the_rule_asks_the_hub_that_huggingface_hub_asks() -> None:
    rule = (Path(__file__).parent / "huggingface.bzl").read_text()
    assert f'DEFAULT_ENDPOINT = "{constants._HF_DEFAULT_ENDPOINT}"\n' in rule
