"""The programs on lists of labels, from end to end: train, show, predict, export."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from src.training import export_onnx, predict
from src.training.problems.multi_label.metrics import MultiLabelMetrics
from src.training.testing.program_runs import json_lines, read_json, run_in
from src.training.testing.tiny_model import build_tiny_model
from src.training.train_model import main, print_model_performance

WORDS = {"great": ["good"], "fine": ["good", "<b>long"], "awful": ["<b>long"]}
TRAIN = (
    *("--model_name_or_path", "base", "--train_file", "train.jsonl", "--test_file", "test.jsonl"),
    *("--validation_file", "test.jsonl"),
    *("--max_seq_length", "24", "--per_device_train_batch_size", "8", "--learning_rate", "1e-2"),
    *("--num_train_epochs", "16", "--threads", "1", "--output_dir", "out"),
)


def write_rows(path: Path, *, rows: int) -> None:
    words = itertools.cycle(itertools.product(("a film", "the story"), ("was", "is"), WORDS))
    path.write_text(
        "".join(
            json.dumps({"text": f"{what} {verb} {word}", "label": WORDS[word]}) + "\n"
            for what, verb, word in itertools.islice(words, rows)
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("labels")
    build_tiny_model(folder / "base")
    write_rows(folder / "train.jsonl", rows=120)
    write_rows(folder / "test.jsonl", rows=36)
    assert run_in(folder, main, *TRAIN) == 0
    return folder


def test_lists_are_learnt_as_many_labels_and_measured_as_such(folder: Path) -> None:
    data = read_json(folder / "out" / "recipe.json")["inputs"]["data"]
    assert (data["problem_type"], data["class_names"]) == ("multi_label_classification", ["<b>long", "good"])
    config = read_json(folder / "out" / "config.json")
    assert (config["problem_type"], config["id2label"]) == (data["problem_type"], {"0": "<b>long", "1": "good"})
    metrics = read_json(folder / "out" / "metrics.json")
    assert metrics["after"]["f1_micro"] > 0.95 > metrics["before"]["f1_micro"]
    assert [score["rows"] for score in metrics["after"]["label_scores"]] == [24, 24]
    assert metrics["comparison"]["test"] == "mcnemar_exact"
    events = json_lines((folder / "out" / "events.jsonl").read_text())
    scored = [event for event in events if event["event"] == "evaluation"]
    assert len(scored) == 16 and scored[-1]["f1_micro"] > scored[0]["f1_micro"]


def test_the_page_and_the_card_tell_every_label(folder: Path) -> None:
    page, card = ((folder / "out" / name).read_text() for name in ("report.html", "README.md"))
    words = " ".join(re.sub("<style.*?</style>|<desc.*?</desc>|<[^>]*>", " ", page, flags=re.DOTALL).split())
    assert re.search(r"Label by label .* &lt;b&gt;long 24 \d+ [\d.]+ % [\d.]+ % [\d.]+ % good 24", words)
    assert "Subset accuracy before and after" in words and "Confusion" not in words
    assert re.findall(r"<script|https?:|<b>long", page) == []
    assert "A multi-label classifier of texts" in card
    assert '("This movie was really good!", top_k=None)' in card
    assert "| F1, micro |" in card and "| subset accuracy |" in card


def test_predict_names_the_labels_above_a_threshold(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers import pipeline

    texts = ["the story was great", "the story was fine", "the story was awful"]
    assert run_in(folder, predict.main, "--model", "out", "--threads", "1", *texts) == 0
    answers = json_lines(capfd.readouterr().out)
    assert [answer["labels"] for answer in answers] == [["good"], ["<b>long", "good"], ["<b>long"]]
    theirs: Any = pipeline("text-classification", model=str(folder / "out"))(texts, top_k=None)
    for answer, scores in zip(answers, theirs, strict=True):
        assert answer["scores"] == pytest.approx({score["label"]: score["score"] for score in scores}, abs=1e-5)
    for threshold, labels in (("0", ["<b>long", "good"]), ("1", [])):
        assert run_in(folder, predict.main, "--model", "out", "--threshold", threshold, texts[1]) == 0
        assert json_lines(capfd.readouterr().out)[0]["labels"] == labels
    rows = "text,label\nthe story was great,\"['good', '<b>long']\"\nthe story was fine,[]\n"
    (folder / "rows.csv").write_text(rows)
    files = ("--input_file", "rows.csv", "--output_file", "scored.csv")
    for threshold, f1 in (("0", "0.6667"), ("1", "0.0000")):
        assert run_in(folder, predict.main, "--model", "out", "--threshold", threshold, *files) == 0
        assert f"F1: {f1}" in capfd.readouterr().out
    assert run_in(folder, predict.main, "--model", "out", "--threshold", "2", "a") == 2
    assert "must be a number from 0 to 1, not '2'" in capfd.readouterr().err


def test_a_threshold_is_for_many_labels_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build_tiny_model(folder / "classes", head=2)
    assert run_in(folder, predict.main, "--model", "classes", "--threshold", "0.3", "a") == 2
    assert "--threshold is for models with many labels a text" in capfd.readouterr().err


def test_it_is_exported_and_compared_label_by_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ((), ("--int8", "--min_agreement", "0.5")):
        command = ("--model", "out", "--output", "out.onnx", "--check_file", "test.jsonl", *flags)
        assert run_in(folder, export_onnx.main, *command) == 0
        check = read_json(folder / "out.onnx.json")["check"]
        assert check["labelled_rows"] == 36
        after = read_json(folder / "out" / "metrics.json")["after"]
        assert check["accuracy"]["original"] == pytest.approx(after["subset_accuracy"])
    assert "equal predictions" in capsys.readouterr().out


def test_a_label_that_the_exported_model_turns_round_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from src.training.export.onnx_model import OnnxClassifier

    right = OnnxClassifier.score_batch
    # The highest score stays the highest.
    monkeypatch.setattr(OnnxClassifier, "score_batch", lambda self, batch: right(self, batch) * 0.4)
    command = ("--model", "out", "--output", "wrong.onnx", "--check_file", "test.jsonl")
    assert run_in(folder, export_onnx.main, *command) == 1
    assert re.search(r"differs from the original \(\d?\d\.\d\d% of 36 predictions", capsys.readouterr().err)


def test_print_model_performance_scores_many_labels(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder / "out")
    rows = {"text": ["a film is great", "a film is awful"], "labels": [[0.0, 1.0], [1.0, 0.0]]}
    metrics = print_model_performance(model, None, tokenizer, rows, text_column_name="text", label_column_name="labels")
    assert isinstance(metrics, MultiLabelMetrics)
    assert metrics.subset_accuracy == 1.0


def test_weights_of_many_labels_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in(folder, main, *TRAIN, "--class_weights", "balanced") == 2
    assert "class_weights are for rows with one class each" in capsys.readouterr().err
