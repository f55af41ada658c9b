"""The programs on pairs of texts, from end to end: train, show, predict, export."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.training import export_onnx, predict
from src.training.testing.program_runs import json_lines, read_json, run_in
from src.training.testing.tiny_model import build_tiny_model, write_pairs
from src.training.train_model import main, print_model_performance

COMMON = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "24", "--per_device_train_batch_size", "8", "--learning_rate", "1e-2"),
    *("--threads", "1", "--output_dir", "out"),
)
PAIRS = (*COMMON, "--text_column_name", "first", "--text_pair_column_name", "second", "--num_train_epochs", "8")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished classifier of pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    build_tiny_model(folder / "base")
    write_pairs(folder / "train.csv", rows=120, seed=1)
    write_pairs(folder / "test.csv", rows=40, seed=2)
    assert run_in(folder, main, *PAIRS) == 0
    return folder


def test_pairs_are_learnt_by_which_text_is_which(pairs: Path) -> None:
    metrics = read_json(pairs / "out" / "metrics.json")
    # A model that confuses the two texts is right half of the time.
    assert metrics["after"]["accuracy"] > 0.8
    recipe = read_json(pairs / "out" / "recipe.json")
    assert recipe["recipe"]["text_pair_column_name"] == "second"
    assert "A classifier of pairs of texts (negative, positive)" in (pairs / "out" / "README.md").read_text()


def test_pairs_are_predicted_from_arguments_and_lines_as_the_pipeline_does(
    pairs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import pipeline

    texts_and_pairs = [("the story 3 is bad", "the film was good"), ("the story 3 is good", "the film was bad")]
    arguments = ("--model", "out", "--threads", "1")
    assert run_in(pairs, predict.main, *arguments, *texts_and_pairs[0], *texts_and_pairs[1]) == 0
    printed = json_lines(capfd.readouterr().out)
    assert [(row["text"], row["text_pair"]) for row in printed] == texts_and_pairs
    assert [row["label"] for row in printed] == ["positive", "negative"]
    classify: Any = pipeline("text-classification", model=str(pairs / "out"))
    for (text, pair), row in zip(texts_and_pairs, printed, strict=True):
        assert classify({"text": text, "text_pair": pair})["score"] == pytest.approx(row["score"], abs=1e-6)
    lines = "".join(json.dumps({"text": text, "text_pair": pair, "id": 7}) + "\n" for text, pair in texts_and_pairs)
    stream = io.TextIOWrapper(io.BytesIO(lines.encode()))
    monkeypatch.setattr("sys.stdin", stream)
    assert run_in(pairs, predict.main, *arguments) == 0
    assert json_lines(capfd.readouterr().out) == printed


@pytest.mark.parametrize(
    ("texts", "lines", "words"),
    [
        (("a", "b", "c"), "", "the model reads pairs of texts, but 3 texts were given"),
        ((), "a film\n", "line 1 is not a JSON object: the model reads pairs of texts"),
        ((), '["a", "b"]\n', "line 1 is not a JSON object"),
        ((), '{"text": "a"}\n', "line 1 has no text_pair: every line must be like"),
        ((), '{"text": " ", "text_pair": "b"}\n', "line 1 has no text: every line"),
        ((), '{"text": "a", "text_pair": 3}\n', "line 1 has no text_pair"),
    ],
)
def test_what_is_no_pair_is_refused(
    pairs: Path,
    texts: tuple[str, ...],
    lines: str,
    words: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert run_in(pairs, predict.main, "--model", "out", *texts) == 2
    captured = capfd.readouterr()
    assert words in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_a_model_of_pairs_is_exported_and_checked_on_pairs(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "out", "--output", "out.onnx")
    assert run_in(pairs, export_onnx.main, *flags) == 2
    assert "--check_file is missing: the model reads pairs of texts" in capsys.readouterr().err
    assert run_in(pairs, export_onnx.main, *flags, "--check_file", "test.csv", "--text_column_name", "first") == 0
    check = read_json(pairs / "out.onnx.json")["check"]
    accuracy = read_json(pairs / "out" / "metrics.json")["after"]["accuracy"]
    assert check["accuracy"] == {"original": accuracy, "onnx": accuracy}
    assert (check["rows"], check["same_predictions"]) == (40, 1.0)


def test_a_model_of_other_making_takes_pairs_if_told_so(pairs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(pairs / "out", pairs / "foreign", dirs_exist_ok=True)
    (pairs / "foreign" / "recipe.json").unlink()
    one_pair = ("the story 3 is bad", "the film was good")
    assert run_in(pairs, predict.main, "--model", "out", *one_pair) == 0
    assert run_in(pairs, predict.main, "--model", "foreign", "--pairs", *one_pair) == 0
    first, second = json_lines(capfd.readouterr().out)
    assert first == second
    assert run_in(pairs, predict.main, "--model", "foreign", *one_pair) == 0
    assert len(json_lines(capfd.readouterr().out)) == 2


def test_print_model_performance_scores_pairs(pairs: Path) -> None:
    import datasets
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(pairs / "out")
    tokenizer = AutoTokenizer.from_pretrained(pairs / "out")
    rows = datasets.Dataset.from_dict(
        {"a": ["the story 3 is bad"] * 2, "b": ["the film was good", "the film was bad"], "label": [1, 0]}
    )
    metrics: Any = print_model_performance(
        model, None, tokenizer, rows, text_column_name="a", text_pair_column_name="b"
    )
    assert metrics.accuracy == 1.0


def test_a_missing_pair_column_is_refused_with_the_nearest(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in(pairs, main, *PAIRS, "--text_pair_column_name", "secnd") == 2
    assert "train.csv has no column 'secnd' (did you mean second?)" in capsys.readouterr().err
