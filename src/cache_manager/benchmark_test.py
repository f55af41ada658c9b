"""The benchmark measures what it says, on a small scale."""

from __future__ import annotations

import json

import pytest

from src.cache_manager.benchmark import main


def test_it_prints_one_json_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_CACHE_DIR", "set by the benchmark")
    assert main(["--entries", "20"]) == 0
    operations = json.loads(capsys.readouterr().out)
    assert operations["entries"] == 20 and 0 < operations["lookup"] < operations["ls"] < operations["ls_as_a_program"]


@pytest.mark.parametrize("arguments", [["--entries", "0"], ["--entries", "many"], ["--entry", "1", "--x"]])
def test_a_wrong_flag_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
