"""The program from a trained model to a checked file, or to nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.training.export import export as checked_export
from src.training.export.onnx_model import OnnxClassifier, write_onnx
from src.training.export_onnx import main
from src.training.inference.classifier import load_classifier
from src.training.inference.model_folder import find_trained_model
from src.training.testing.program_runs import called_from
from src.training.testing.tiny_model import build_tiny_model, write_sentences

ARGUMENTS = ("--model", "model", "--output", "out/tiny.onnx", "--check_file", "rows.csv")


@pytest.fixture
def user_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a trained model and rows."""
    build_tiny_model(tmp_path / "model", head=2)
    write_sentences(tmp_path / "rows.csv", rows=40, seed=1)
    with called_from(tmp_path):
        yield tmp_path


def _report(user_folder: Path) -> Any:
    return json.loads((user_folder / "out" / "tiny.onnx.json").read_text())


def _another_model(user_folder: Path) -> Any:
    """Writes the graph of other weights, whatever it is asked to write."""
    other = load_classifier(
        find_trained_model(build_tiny_model(user_folder / "other", head=2, seed=5)), attention="eager"
    )
    return lambda _source, path: write_onnx(other, path)


def test_the_file_and_the_report_are_written_side_by_side(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS]) == 0
    assert sorted(path.name for path in (user_folder / "out").iterdir()) == ["tiny.onnx", "tiny.onnx.json"]
    report, content = _report(user_folder), (user_folder / "out" / "tiny.onnx").read_bytes()
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    assert report["bytes"]["onnx"] == len(content)
    assert (report["weights"], report["class_names"]) == ("float32", ["LABEL_0", "LABEL_1"])
    check = report["check"]
    assert (check["rows_of"], check["rows"], check["same_predictions"]) == ("rows.csv", 40, 1.0)
    assert check["max_score_difference"] < 1e-5
    assert "40 rows of rows.csv: 100.00% equal predictions" in capsys.readouterr().out


def test_accuracy_is_reported_where_the_classes_are_the_models(user_folder: Path) -> None:
    config = user_folder / "model" / "config.json"
    names = {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **names}))
    assert main([*ARGUMENTS]) == 0
    check = _report(user_folder)["check"]
    assert check["labelled_rows"] == 40
    assert check["accuracy"]["original"] == check["accuracy"]["onnx"]


def test_int8_is_exported_if_it_agrees_enough(user_folder: Path) -> None:
    assert main([*ARGUMENTS, "--int8", "--min_agreement", "0"]) == 0
    assert _report(user_folder)["weights"] == "int8"
    original = load_classifier(find_trained_model(user_folder / "model"))
    exported = OnnxClassifier(user_folder / "out" / "tiny.onnx", original=original)
    (batch,) = original.batches(["the film was good"], batch_size=1)
    np.testing.assert_allclose(exported.score_batch(batch), original.score_batch(batch), atol=0.02)


@pytest.mark.parametrize("step", ["write_onnx", "quantize"])
def test_another_model_is_never_written(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    # Scores of random weights lie near one half: these differ in both classes and digits.
    monkeypatch.setattr(checked_export, step, _another_model(user_folder))
    (user_folder / "out").mkdir()
    (user_folder / "out" / "tiny.onnx").write_text("an older model")
    arguments = [*ARGUMENTS, "--int8", "--min_agreement", "1"] if step == "quantize" else [*ARGUMENTS]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert (
        message.startswith("export_onnx: the ")
        and message.endswith(": nothing was written\n")
        and message.count("\n") == 1
    )
    assert [path.name for path in (user_folder / "out").iterdir()] == ["tiny.onnx"]
    assert (user_folder / "out" / "tiny.onnx").read_text() == "an older model"


def test_an_interrupted_export_leaves_nothing(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(checked_export, "write_onnx", interrupt)
    assert main([*ARGUMENTS]) == 3
    assert list((user_folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--output": None}, "--output is missing"),
        ({"--output": "tiny.pt"}, "--output must end in .onnx, not 'tiny.pt'"),
        ({"--output": "rows.csv/tiny.onnx"}, "rows.csv is a file"),
        ({"--model": "nowhere"}, "nowhere does not exist"),
        ({"--check_file": "none.csv"}, "--check_file none.csv does not exist"),
        ({"--check_file": "rows.docx"}, "rows.docx must end in .csv"),
        ({"--check_file": None, "--text_column_name": "text"}, "--text_column_name needs --check_file"),
        ({"--min_agreement": "0.9"}, "--min_agreement needs --int8"),
        ({"--text_column_name": "body"}, "rows.csv has no column 'body'"),
    ],
)
def test_a_wrong_request_is_refused(
    user_folder: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str | None], words: str
) -> None:
    flags = {**dict(zip(ARGUMENTS[::2], ARGUMENTS[1::2], strict=True)), **changed}
    arguments = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (user_folder / "out").exists()


def test_int8_is_refused_where_there_are_no_classes_to_compare(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(user_folder / "model")
    build_tiny_model(user_folder / "model", head=1)
    assert main([*ARGUMENTS, "--int8"]) == 2
    assert "--int8 is checked by the predicted classes" in capsys.readouterr().err
    assert main([*ARGUMENTS]) == 0
