"""A built model is asked by the program for its kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.cli.errors import EXIT_WRONG_REQUEST
from src.rules import ask_model


@pytest.mark.parametrize(
    ("architecture", "program"), [("LlamaForCausalLM", "generate"), ("BertForSequenceClassification", "predict")]
)
def test_the_kind_of_a_model_chooses_the_program(
    architecture: str,
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ask_model, "_RUNFILES", tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    # There are no weights: the program that is asked says so.
    assert ask_model.main(["model", "a fine film"]) == EXIT_WRONG_REQUEST
    assert capsys.readouterr().err.startswith(f"{program}: ")
