"""Early stopping: when training ends, what is kept then, and that a resumed run ends at the same epoch."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.training.engine.early_stopping import EarlyStopping
from src.training.testing.program_runs import called_from
from src.training.testing.stopped_training import stopped_after
from src.training.testing.user_folder import copy_of_inputs, write_inputs
from src.training.train_model import main

EPOCHS, STEPS_AN_EPOCH = 30, 15
# Many labels of the train rows are wrong: the best epoch is soon behind.
ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv"),
    *("--validation_file", "dev.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "16", "--per_device_train_batch_size", "4", "--learning_rate", "1e-2"),
    *("--num_train_epochs", str(EPOCHS), "--threads", "1", "--output_dir", "out"),
)
PATIENT = (*ARGUMENTS, "--early_stopping_patience", "3")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"), train=60, dev=40, test=20, noisy=True)


user_folder = pytest.fixture(copy_of_inputs)


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that only its patience ends."""
    folder = shutil.copytree(inputs, tmp_path_factory.mktemp("whole") / "user_folder")
    with called_from(folder):
        assert main([*PATIENT]) == 0
    return folder / "out"


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    all_events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event for event in all_events if event["event"] == kind]


def counts(gains: list[float], *, threshold: float = 0.0) -> list[int]:
    """How many epochs without progress there are after each of these: gains over the best one before."""
    rule, waited = EarlyStopping(patience=3, threshold=threshold), [0]
    for gain in gains:
        waited.append(rule.epochs_without_progress(so_far=waited[-1], better=gain >= 0, gain=gain))
    return waited[1:]


def test_any_better_epoch_is_progress_without_a_threshold() -> None:
    # A gain of 0 that is better: the same accuracy at a lower loss.
    assert counts([math.inf, -0.1, -0.2, 0.0, -0.1, 0.01]) == [0, 1, 2, 0, 1, 0]


def test_with_a_threshold_a_gain_has_to_be_above_it() -> None:
    assert counts([math.inf, 0.01, 0.05, 0.06, -0.1], threshold=0.05) == [0, 1, 2, 0, 1]


def test_patience_ends_after_as_many_epochs_as_it_says_and_never_where_none_is_set() -> None:
    assert [EarlyStopping(patience=2).is_out_of_patience(epochs) for epochs in (0, 1, 2)] == [False, False, True]
    assert not EarlyStopping().is_out_of_patience(1000)


def test_training_ends_early_keeps_the_best_epoch_and_says_so(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PATIENT]) == 0
    printed = capsys.readouterr().out
    scores = [(event["accuracy"], -event["loss"]) for event in events(user_folder / "out", "evaluation")]
    best = scores.index(max(scores)) + 1
    assert len(scores) == best + 3 < EPOCHS
    [stop] = events(user_folder / "out", "early_stop")
    assert (stop["epoch"], stop["step"]) == (best + 3, (best + 3) * STEPS_AN_EPOCH)
    assert printed.count("stopped early") == 1
    assert f"epoch {best} had the best validation scores: it is kept" in printed
    line = f"after epoch {best + 3} of {EPOCHS}: 3 without a better score"
    assert line in (user_folder / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{best + 3} of at most {EPOCHS} epochs (stopped early)" in (user_folder / "out" / "README.md").read_text()


def test_the_epochs_before_the_stop_are_those_of_a_run_without_one(user_folder: Path, whole: Path) -> None:
    # The learning rate falls to 0 at the end of the last epoch, not of the one that patience ends.
    assert main([*ARGUMENTS]) == 0
    stopped, endless = events(whole, "step"), events(user_folder / "out", "step")
    deciding = ("step", "loss", "learning_rate")
    assert [[event[key] for key in deciding] for event in stopped] == [
        [event[key] for key in deciding] for event in endless[: len(stopped)]
    ]
    assert len(stopped) < len(endless)


def test_a_resumed_run_ends_at_the_same_epoch_with_the_same_bits(user_folder: Path, whole: Path) -> None:
    [end] = (event["epoch"] * STEPS_AN_EPOCH for event in events(whole, "early_stop"))
    # In the first epoch, and in each of those that wait for a better one.
    for step in (3, end - 40, end - 25, end - 8):
        with stopped_after(step):
            assert main([*PATIENT]) == 3
    assert main([*PATIENT]) == 0
    for kind in ("evaluation", "early_stop"):
        assert events(user_folder / "out", kind) == events(whole, kind)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (user_folder / "out", whole)]
    assert weights[0] == weights[1]


def test_an_epoch_that_gains_too_little_is_kept_but_is_no_progress(user_folder: Path) -> None:
    assert main([*PATIENT, "--early_stopping_threshold", "0.9"]) == 0
    assert [event["epoch"] for event in events(user_folder / "out", "early_stop")] == [4]
    scores = [(event["accuracy"], -event["loss"]) for event in events(user_folder / "out", "evaluation")]
    assert max(scores) != scores[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--validation_file", "dev.csv"],
        ["--test_file", "test.csv", "--validation_file", "dev.csv", "--load_best_model_at_end", "false"],
    ],
)
def test_it_is_refused_where_no_rows_may_choose(
    user_folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    request = ["--model_name_or_path", "base", "--train_file", "train.csv", "--output_dir", "out", *arguments]
    assert main([*request, "--early_stopping_patience", "2"]) == 2
    errors = capsys.readouterr().err
    assert "early_stopping_patience needs rows that may choose the epoch" in errors
    assert errors.count("\n") == 1
    assert not (user_folder / "out").exists()


@pytest.mark.usefixtures("user_folder")
def test_a_threshold_without_patience_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--early_stopping_threshold", "0.1"]) == 2
    assert "early_stopping_threshold needs early_stopping_patience" in capsys.readouterr().err
