"""The programs on values, from end to end: train, show, predict, export."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from src.training import export_onnx, predict
from src.training.problems.regression.metrics import ValueMetrics
from src.training.testing.program_runs import json_lines, read_json, run_in
from src.training.testing.tiny_model import build_tiny_model, write_ratings
from src.training.train_model import main, print_model_performance

COMMON = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "24", "--per_device_train_batch_size", "8", "--learning_rate", "1e-2"),
    *("--threads", "1", "--output_dir", "out"),
)
VALUES = (*COMMON, "--label_column_name", "rating", "--num_train_epochs", "16")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished regression."""
    folder = tmp_path_factory.mktemp("values")
    build_tiny_model(folder / "base")
    write_ratings(folder / "train.csv", rows=120, seed=1)
    write_ratings(folder / "test.csv", rows=30, seed=2)
    assert run_in(folder, main, *VALUES) == 0
    return folder


def test_a_regression_learns_and_is_measured_by_its_errors(values: Path) -> None:
    metrics = read_json(values / "out" / "metrics.json")
    scores = {"split", "examples", "loss", "mse", "mae", "mae_ci95", "pearson", "spearman", "r2"}
    for side in ("before", "after"):
        scored = metrics[side]
        assert set(scored) == scores
        assert (scored["split"], scored["examples"]) == ("test", 30)
        assert scored["mae_ci95"][0] < scored["mae"] < scored["mae_ci95"][1]
        assert scored["loss"] == pytest.approx(scored["mse"], rel=1e-5)
    assert metrics["after"]["mae"] < metrics["before"]["mae"] / 2
    assert metrics["after"]["pearson"] > 0.8
    comparison = metrics["comparison"]
    assert comparison["test"] == "wilcoxon_signed_rank"
    assert comparison["better"] + comparison["worse"] == 30
    assert comparison["p_value"] < 0.05


def test_a_regression_is_one_output_that_transformers_knows_for_a_value(values: Path) -> None:
    from transformers import pipeline

    config = read_json(values / "out" / "config.json")
    assert (config["problem_type"], config["id2label"]) == ("regression", {"0": "rating"})
    answers = pipeline("text-classification", model=str(values / "out"))(["the film was great", "the film was awful"])
    assert [answer["label"] for answer in answers] == ["rating", "rating"]
    assert answers[0]["score"] > 0.5 > -0.5 > answers[1]["score"]


def test_a_regression_is_told_to_people(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = shutil.copytree(values, values.parent / "again", ignore=shutil.ignore_patterns("out*"))
    assert run_in(again, main, *VALUES) == 0
    printed = capsys.readouterr().out
    assert "Labels: numbers from -1.6" in printed
    assert "(regression; --problem_type classification treats them as classes)" in printed
    assert "epoch 16: validation mean absolute error" in printed
    assert "Predicted value: " in printed
    assert "Mean absolute error: " in printed and "95% interval" in printed
    assert (
        "nearer to their label" in printed and "better, by more than noise (Wilcoxon's signed-rank test, p " in printed
    )
    assert "ccuracy" not in printed
    assert "mean absolute error" in (again / "out" / "report.html").read_text()
    assert "A regression model that predicts a number" in (again / "out" / "README.md").read_text()
    # The same recipe elsewhere: the same bits.
    for name in ("model.safetensors", "recipe.json", "config.json"):
        first, second = (hashlib.sha256((folder / "out" / name).read_bytes()) for folder in (values, again))
        assert first.hexdigest() == second.hexdigest()


def test_events_of_a_regression_tell_its_errors(values: Path) -> None:
    events = json_lines((values / "out" / "events.jsonl").read_text())
    scored = [event for event in events if event["event"] == "evaluation"]
    assert len(scored) == 16
    assert all(event["mae_ci95"][0] < event["mae"] < event["mae_ci95"][1] for event in scored)


def test_predict_says_a_value(values: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_in(values, predict.main, "--model", "out", "--threads", "1", "the film was great", "dull") == 0
    great, dull = json_lines(capfd.readouterr().out)
    assert set(great) == {"text", "value"}
    assert great["value"] > dull["value"]
    assert run_in(values, predict.main, "--model", "out", "--pairs", "a", "b") == 2
    assert "was trained on single texts: leave out --pairs" in capfd.readouterr().err


def test_a_regression_is_exported_and_compared_by_its_errors(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "out", "--output", "out.onnx", "--check_file", "test.csv", "--label_column_name", "rating")
    assert run_in(values, export_onnx.main, *flags) == 0
    check = read_json(values / "out.onnx.json")["check"]
    assert (check["same_predictions"], check["accuracy"], check["labelled_rows"]) == (None, None, 30)
    mae = read_json(values / "out" / "metrics.json")["after"]["mae"]
    assert check["mean_absolute_error"]["original"] == pytest.approx(mae, rel=1e-4)
    assert check["mean_absolute_error"]["onnx"] == pytest.approx(mae, rel=1e-3)
    printed = capsys.readouterr().out
    assert "30 rows of test.csv: values differ by at most" in printed
    assert "(mean absolute, 30 labelled rows)" in printed


def test_a_wrong_export_of_a_regression_is_never_written(
    values: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from src.training.export.onnx_model import OnnxClassifier

    right = OnnxClassifier.score_batch
    monkeypatch.setattr(OnnxClassifier, "score_batch", lambda self, batch: right(self, batch) + 0.01)
    flags = ("--model", "out", "--output", "wrong.onnx", "--check_file", "test.csv", "--label_column_name", "rating")
    assert run_in(values, export_onnx.main, *flags) == 1
    assert "differs from the original (values of 30 rows differ by up to 1.0e-02)" in capsys.readouterr().err
    assert not (values / "wrong.onnx").exists()


def test_print_model_performance_scores_a_regression(values: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(values / "out")
    tokenizer = AutoTokenizer.from_pretrained(values / "out")
    # Whole numbers are values too.
    rows = {"text": ["the film was great", "the film was awful"], "rating": [2, -2]}
    metrics = print_model_performance(model, None, tokenizer, rows, text_column_name="text", label_column_name="rating")
    assert isinstance(metrics, ValueMetrics)
    assert metrics.mae < 1
    assert metrics.pearson == pytest.approx(1)


def test_weights_of_a_regression_are_refused(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in(values, main, *VALUES, "--class_weights", "balanced") == 2
    assert "class_weights are for classes, but this is a regression: leave them out" in capsys.readouterr().err
