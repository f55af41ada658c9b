"""The benchmark runs every loop on the same rows and prints one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.training.benchmark import main
from src.training.testing.tiny_model import build_tiny_model, write_sentences


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    build_tiny_model(tmp_path / "base", positions=128)
    files = [f"--{role}_file={write_sentences(tmp_path / f'{role}.csv', rows=rows, seed=rows)}"
             for role, rows in (("train", 640), ("validation", 20), ("test", 30))]  # fmt: skip
    return [
        "--model_name_or_path",
        str(tmp_path / "base"),
        *files,
        "--threads",
        "1",
        "--steps",
        "8",
        "--rounds",
        "2",
        "--learning_rate",
        "0.005",
    ]


def test_a_sample_and_the_whole_job_are_reported_for_each_loop(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "--full", "--seeds", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    loops = {"tutorial", "transformers_best", "ours"}
    assert set(result["sample"]) == set(result["fraction_of_peak"]) == loops
    assert set(result["full"]) == {*loops, "ours_fast"}
    seeds = result["accuracy_over_seeds"]
    assert {len(values) for values in seeds["accuracies"].values()} == {seeds["seeds"]} == {2}
    assert result["sample"]["ours"]["times_ours"] == 1
    assert all(loop["ms_a_step"] > 0 for loop in result["sample"].values())
    # The words of these sentences give the class away, so a loop that is scored on its own labels learns them all.
    assert all(result["full"][name]["accuracy"] > 0.9 for name in loops)
    assert result["padding_share"]["ours"] < result["padding_share"]["tutorial"] < 1
    assert all(0 < share < 1 for share in result["fraction_of_peak"].values())


def test_a_missing_file_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--test_file", "no.csv"]) == 2
    assert "no.csv does not exist" in capsys.readouterr().err
