"""The program from end to end: a tiny model, a small file, and the folder that comes of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.environment import description
from src.training.problems.classification.metrics import ClassMetrics
from src.training.problems.classification.problem import Classification
from src.training.testing.user_folder import copy_of_inputs, write_inputs
from src.training.train_model import main, print_model_performance, train_classifier

ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "16", "--per_device_train_batch_size", "8", "--learning_rate", "2e-2"),
    *("--num_train_epochs", "4", "--threads", "1", "--output_dir", "out"),
)
REPRODUCIBLE = ("model.safetensors", "config.json", "recipe.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"), train=80, test=20)


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact folder of a run in a process of its own."""
    folder = shutil.copytree(inputs, tmp_path_factory.mktemp("finished") / "user_folder")
    done = subprocess.run(
        [sys.executable, "-m", "src.training.train_model", *ARGUMENTS],
        env=_clean_environment() | {"BUILD_WORKING_DIRECTORY": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr.count("train_model:")) == (0, 0), done.stderr
    assert "more than noise (McNemar's exact test, p " in done.stdout
    assert done.stdout.rstrip().endswith(f"Model saved to {folder / 'out'}")
    return folder / "out"


user_folder = pytest.fixture(copy_of_inputs)


def _clean_environment() -> dict[str, str]:
    """The environment without what Bazel says to a test: it would move the outputs and set a deadline."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _hashes(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in REPRODUCIBLE}


def test_the_artifact_is_whole_and_nothing_else_is_left(finished: Path) -> None:
    others = {"metrics.json", "README.md", "report.html", "events.jsonl"}
    assert {path.name for path in finished.iterdir()} == {*REPRODUCIBLE, *others}
    assert {path.name for path in finished.parent.iterdir()} == {"base", "train.csv", "test.csv", "out"}


def test_the_artifact_loads_and_knows_its_label_names(finished: Path) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(finished))
    answers = classify(["the film was great", "the film was very awful"])
    assert [answer["label"] for answer in answers] == ["positive", "negative"]


def test_metrics_have_the_documented_schema(finished: Path) -> None:
    metrics = _read(finished / "metrics.json")
    assert set(metrics) == {"schema", "before", "after", "comparison", "train", "environment", "status", "validation"}
    assert (metrics["schema"], metrics["status"]) == (2, "complete")
    scores = {"split", "examples", "loss", "accuracy", "accuracy_ci95", "precision", "recall", "f1"}
    for side in ("before", "after"):
        assert set(metrics[side]) == scores | {"confusion_matrix", "labels"}
        assert (metrics[side]["split"], metrics[side]["examples"]) == ("test", 20)
        assert metrics[side]["labels"] == ["negative", "positive"]
        assert sum(map(sum, metrics[side]["confusion_matrix"])) == 20
        low, high = metrics[side]["accuracy_ci95"]
        assert 0 <= low <= metrics[side]["accuracy"] <= high <= 1
    train = metrics["train"]
    rates = {"seconds", "examples_per_second", "tokens_per_second", "peak_rss_bytes"}
    assert set(train) == rates | {"examples", "epochs", "steps", "threads", "device"}
    # 80 rows, 8 of which are set aside to choose the epoch by: 72 in batches of 8, four times.
    assert [train[name] for name in ("examples", "epochs", "steps", "threads")] == [288, 4.0, 36, 1]
    assert all(train[name] > 0 for name in rates)
    assert {"cpu", "python", "versions"} <= set(metrics["environment"])


def test_before_and_after_are_compared_row_by_row(finished: Path) -> None:
    metrics = _read(finished / "metrics.json")
    comparison = metrics["comparison"]
    gained = round(20 * (metrics["after"]["accuracy"] - metrics["before"]["accuracy"]))
    assert comparison["better"] - comparison["worse"] == gained
    assert comparison["test"] == "mcnemar_exact"
    assert 0 < comparison["p_value"] < 0.05


def test_the_report_and_the_card_tell_of_this_run(finished: Path) -> None:
    accuracy = _read(finished / "metrics.json")["after"]["accuracy"]
    assert f"{100 * accuracy:.1f}\u00a0%</b>" in (finished / "report.html").read_text(encoding="utf-8")
    assert f"{accuracy:.4f} |" in (finished / "README.md").read_text(encoding="utf-8")


def test_training_learns_and_is_scored_on_rows_it_never_saw(finished: Path) -> None:
    metrics = _read(finished / "metrics.json")
    assert metrics["before"]["accuracy"] < 0.8 < metrics["after"]["accuracy"]
    assert metrics["after"]["loss"] < metrics["before"]["loss"]


def test_the_recipe_file_says_what_the_run_was_made_of(finished: Path) -> None:
    recipe = _read(finished / "recipe.json")
    assert recipe["recipe"]["learning_rate"] == 0.02
    data = recipe["inputs"]["data"]
    assert [data[role]["rows"] for role in ("train", "validation", "test")] == [72, 8, 20]
    assert data["class_names"] == ["negative", "positive"]
    assert len(recipe["inputs"]["model"]["sha256"]) == len(recipe["fingerprint"]) == 64


def test_events_tell_every_step_and_epoch(finished: Path) -> None:
    events = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 37))
    assert all(math.isfinite(event["loss"]) and event["learning_rate"] > 0 for event in steps)
    assert [event["epoch"] for event in events if event["event"] == "evaluation"] == [1, 2, 3, 4]


def test_the_same_recipe_in_another_folder_and_process_gives_the_same_bits(finished: Path, user_folder: Path) -> None:
    assert main([*ARGUMENTS]) == 0
    assert _hashes(user_folder / "out") == _hashes(finished)


def test_another_seed_gives_other_weights(finished: Path, user_folder: Path) -> None:
    assert main([*ARGUMENTS, "--seed", "43"]) == 0
    assert _hashes(user_folder / "out")["model.safetensors"] != _hashes(finished)["model.safetensors"]


def test_a_rerun_of_the_same_recipe_replaces_its_model(finished: Path, user_folder: Path) -> None:
    shutil.copytree(finished, user_folder / "out")
    old = (user_folder / "out").stat().st_ino
    assert main([*ARGUMENTS]) == 0
    assert (user_folder / "out").stat().st_ino != old
    assert _hashes(user_folder / "out") == _hashes(finished)


def test_a_folder_with_another_model_is_refused_unless_told_otherwise(
    finished: Path, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, user_folder / "out")
    other = (*ARGUMENTS, "--seed", "43", "--num_train_epochs", "1")
    assert main([*other]) == 2
    assert "model of another recipe" in capsys.readouterr().err
    assert _hashes(user_folder / "out") == _hashes(finished)
    assert main([*other, "--overwrite_output_dir"]) == 0
    assert _read(user_folder / "out" / "recipe.json")["recipe"]["seed"] == 43


def test_a_folder_with_something_else_is_refused_even_with_overwrite(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (user_folder / "out").mkdir()
    (user_folder / "out" / "thesis.txt").write_text("dear to me")
    assert main([*ARGUMENTS, "--overwrite_output_dir"]) == 2
    assert "already holds something else" in capsys.readouterr().err
    assert [path.name for path in (user_folder / "out").iterdir()] == ["thesis.txt"]


def test_without_an_output_dir_the_folder_is_named_after_the_run(user_folder: Path) -> None:
    assert main([*ARGUMENTS[:-2], "--num_train_epochs", "1"]) == 0
    [folder] = (user_folder / "finetuned").iterdir()
    assert folder.name == f"custom-{_read(folder / 'recipe.json')['fingerprint'][:8]}"


@pytest.mark.usefixtures("user_folder")
def test_what_the_records_need_is_missed_before_the_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "_PACKAGES", ("no-such-package",))
    assert main([*ARGUMENTS]) == 1
    shown = capsys.readouterr()
    assert "no-such-package" in shown.err
    assert "Model Performance" not in shown.out


def test_a_page_that_cannot_be_made_costs_the_page_and_not_the_model(
    user_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classification, "page_template", user_folder / "absent.j2")
    assert main([*ARGUMENTS, "--num_train_epochs", "1"]) == 0
    assert "report.html is left out, for it could not be made: TemplateNotFound: " in capsys.readouterr().out
    files = {path.name for path in (user_folder / "out").iterdir()}
    assert {"model.safetensors", "metrics.json", "README.md"} <= files
    assert "report.html" not in files


def test_train_classifier_returns_the_folder_and_takes_any_field_of_a_recipe(user_folder: Path) -> None:
    fields: dict[str, Any] = {"train_file": "train.csv", "test_file": "test.csv", "max_seq_length": 16, "threads": 1}
    folder = train_classifier(
        "base", output_dir=user_folder / "mine", epochs=1, batch_size=8, learning_rate=1e-2, **fields
    )
    assert folder == str(user_folder / "mine")
    assert _read(user_folder / "mine" / "metrics.json")["train"]["steps"] == 9


def test_train_classifier_tells_a_misspelt_field(user_folder: Path) -> None:
    with pytest.raises(RequestError, match="learning_rates.*did you mean learning_rate"):
        train_classifier("base", train_file="train.csv", output_dir=user_folder / "mine", learning_rates=1e-3)


def test_print_model_performance_scores_a_dataset_without_a_trainer(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(finished)
    tokenizer = AutoTokenizer.from_pretrained(finished)
    sentences = ["the film was great", "a dull story", "a very good film"]
    rows = datasets.Dataset.from_dict({"sentence": sentences, "label": [1, 0, 0]})
    metrics = print_model_performance(model, None, tokenizer, rows)
    assert isinstance(metrics, ClassMetrics)
    assert metrics.confusion_matrix == ((1, 1), (0, 1))
    assert "Accuracy: 0.6667" in capsys.readouterr().out
