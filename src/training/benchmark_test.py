"""The benchmark runs every loop on the same rows and prints one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.training.benchmark import main
from src.training.testing.tiny_kinds import build_tiny_chat_model
from src.training.testing.tiny_model import build_tiny_model, write_conversations, write_sentences


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


def test_a_language_model_is_compared_with_peft_and_trainer_which_have_the_same_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_tiny_chat_model(tmp_path / "base")
    files = [
        f"--{role}_file={write_conversations(tmp_path / f'{role}.jsonl', rows=rows, seed=rows)}"
        for role, rows in (("train", 40), ("validation", 8), ("test", 6))
    ]
    given = ["--recipe", "embedded_llm", "--model_name_or_path", str(tmp_path / "base"), *files, "--threads", "1"]
    assert main([*given, "--rounds", "1", "--learning_rate", "0.01"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    loops, shares = result["loops"], result["share_of_a_step"]
    assert all(loop["fraction_of_peak"] > 0 for loop in loops.values())
    assert shares.keys() == {"products", "attention", "norms", "optimizer", "rest"}
    assert all(0 < share < 1 for share in shares.values())
    assert all(f"\n{name} " in printed.err for name in [*loops, *shares])
    assert set(loops) == {"peft_trainer", "peft_trainer_same_batches", "ours"}
    # 40 rows in batches of 8.
    assert {len(loop["losses"]) for loop in loops.values()} == {5}
    assert result["greatest_difference_of_losses"] < 1e-4
    # Of the rate's size: otherwise equal losses would say nothing of the steps.
    assert loops["ours"]["losses"][0] - loops["ours"]["losses"][2] > 0.05
    assert all(
        loop["seconds"] > 0 and loop["rows_per_second"] > 0 and loop["tokens_per_second"] > 0 for loop in loops.values()
    )
    assert loops["ours"]["times_ours"] == 1


def test_a_recipe_of_a_classifier_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "embedded"]) == 2
    assert "--recipe is for language models" in capsys.readouterr().err
