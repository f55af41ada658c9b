"""The benchmark measures what it says, on a small scale."""

from __future__ import annotations

import json

import pytest

from src.cache_manager.benchmark import main


def test_it_prints_one_json_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_CACHE_DIR", "set by the benchmark")
    assert main(["--sizes", "4.4M", "--rounds", "1", "--entries", "20"]) == 0
    result = json.loads(capsys.readouterr().out)
    warm = result["opening"]["4.4M"]["warm"]
    assert warm["seconds"].keys() == {"ours", "ours_all_bytes", "from_pretrained", "raw"}
    assert all(seconds > 0 for seconds in warm["seconds"].values()) and warm["from_pretrained_times_ours"] > 0
    assert result["opening"]["4.4M"]["bytes"] > 4_000_000 * 4
    operations = result["operations"]
    assert operations["entries"] == 20 and 0 < operations["lookup"] < operations["ls"] < operations["ls_as_a_program"]


@pytest.mark.parametrize("arguments", [["--sizes", "7B"], ["--rounds", "0"], ["--round", "1", "--x"]])
def test_a_wrong_flag_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
