"""A run that is stopped, killed or out of time, and the run after it: end to end, with real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from src.training.engine.checkpoints import Checkpoints
from src.training.testing.artifact_content import artifact_content
from src.training.testing.user_folder import copy_of_inputs, write_inputs
from src.training.train_model import main

# Long enough to be stopped in the middle. Many labels of the train rows are wrong, so the last epoch is not the best
# one, and a checkpoint has to carry the best one's weights as well.
ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv"),
    *("--validation_file", "dev.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "16", "--per_device_train_batch_size", "4", "--learning_rate", "1e-2"),
    *("--num_train_epochs", "12", "--threads", "1", "--output_dir", "out"),
)
INPUTS = {"base", "chat", *(f"{part}.{ending}" for part in ("train", "dev", "test") for ending in ("csv", "jsonl"))}
LANGUAGE_MODEL = (
    *("--model_name_or_path", "chat", "--train_file", "train.jsonl", "--validation_file", "dev.jsonl"),
    *("--test_file", "test.jsonl", "--max_generate_samples", "2", "--max_new_tokens", "4", "--threads", "2"),
    *("--num_train_epochs", "2", "--output_dir", "out"),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"), train=100, dev=40, test=20, noisy=True, language=True)


user_folder = pytest.fixture(copy_of_inputs)


@pytest.fixture(scope="module")
def uninterrupted(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nothing stopped."""
    folder = shutil.copytree(inputs, tmp_path_factory.mktemp("uninterrupted") / "user_folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUILD_WORKING_DIRECTORY", str(folder))
        assert main([*ARGUMENTS]) == 0
    return (folder / "out" / "model.safetensors").read_bytes()


@pytest.fixture
def program(user_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The program in a process of its own, in the middle of training."""
    process = subprocess.Popen(
        [sys.executable, "-m", "src.training.train_model", *ARGUMENTS, "--num_train_epochs", "2000"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for_a_step(user_folder, gone=lambda: process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_for_a_step(user_folder: Path, *, epochs: int = 0, gone: Callable[[], bool] = lambda: False) -> None:
    """Returns when a step is done and so many epochs are scored."""
    path, give_up, events = user_folder / "out.checkpoint" / "events.jsonl", time.monotonic() + 60, ""
    while '"event": "step"' not in events or events.count('"event": "evaluation"') < epochs:
        events = path.read_text() if path.is_file() else ""
        assert not gone() and time.monotonic() < give_up, "training has not begun"
        time.sleep(0.01)


def _stopped_by(
    number: signal.Signals, user_folder: Path, *, epochs: int = 0, arguments: Sequence[str] = ARGUMENTS
) -> int:
    """Runs the program in this process and sends it a signal in the middle; returns its exit code."""

    def interrupt() -> None:
        _wait_for_a_step(user_folder, epochs=epochs)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=interrupt, daemon=True)
    sender.start()
    code = main([*arguments])
    sender.join()
    return code


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def _steps(folder: Path) -> list[int]:
    return [event["step"] for event in _events(folder) if event["event"] == "step"]


def _metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_ctrl_c_ends_the_program_in_time_with_a_checkpoint(program: subprocess.Popen[str], user_folder: Path) -> None:
    started = time.monotonic()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert (program.returncode, time.monotonic() - started < 10) == (3, True)
    assert "rerun the command to resume" in errors
    assert "Traceback" not in errors
    assert {path.name for path in user_folder.iterdir()} == {*INPUTS, "out.checkpoint"}
    metrics = _metrics(user_folder / "out.checkpoint")
    assert (metrics["status"], metrics["after"]) == ("interrupted", None)
    assert metrics["train"]["steps"] > 0


def test_a_program_whose_lines_nobody_reads_any_more_ends_with_a_checkpoint(
    program: subprocess.Popen[str], user_folder: Path
) -> None:
    assert program.stdout is not None and program.stderr is not None
    # What is said of the rows comes first.
    assert any(line.startswith("Recipe") for line in iter(program.stdout.readline, ""))
    program.stdout.close()
    errors = program.stderr.read().splitlines()
    assert program.wait(timeout=30) == 3
    assert errors == ["train_model: stopped (standard output: nobody reads it any more): rerun the command to resume"]
    assert _metrics(user_folder / "out.checkpoint")["status"] == "interrupted"
    assert any((user_folder / "out.checkpoint").glob("checkpoint-*"))


def test_a_killed_program_leaves_nothing_under_the_final_name_and_nothing_in_the_way(
    program: subprocess.Popen[str], user_folder: Path, uninterrupted: bytes
) -> None:
    program.send_signal(signal.SIGKILL)
    program.communicate(timeout=30)
    assert not (user_folder / "out").exists()
    assert main([*ARGUMENTS]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted
    assert {path.name for path in user_folder.iterdir()} == {*INPUTS, "out"}
    # Nor do steps of the killed run stand among the events.
    assert _steps(user_folder / "out") == list(range(1, 12 * 25 + 1))


@pytest.mark.parametrize(("number", "epochs"), [(signal.SIGINT, 0), (signal.SIGTERM, 6)])
def test_the_same_command_goes_on_to_the_bits_of_an_uninterrupted_run(
    number: signal.Signals, epochs: int, user_folder: Path, uninterrupted: bytes
) -> None:
    assert _stopped_by(number, user_folder, epochs=epochs) == 3
    stopped = _metrics(user_folder / "out.checkpoint")
    assert stopped["status"] == "interrupted"
    assert not (user_folder / "out").exists()
    assert main([*ARGUMENTS, "--resume_from_checkpoint", "true"]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted
    assert not (user_folder / "out.checkpoint").exists()
    train = _metrics(user_folder / "out")["train"]
    assert 0 < stopped["train"]["steps"] < train["steps"]
    # What was done before the stop counts, and nothing twice.
    assert train["examples"] == 12 * 100
    assert train["seconds"] > stopped["train"]["seconds"]
    assert _steps(user_folder / "out") == list(range(1, train["steps"] + 1))
    scores = [
        (event["accuracy"], -event["loss"]) for event in _events(user_folder / "out") if event["event"] == "evaluation"
    ]
    assert len(scores) == 12
    assert max(scores) in scores[:5], "the best epoch is to be one that a checkpoint has to carry"


def test_a_deadline_saves_a_checkpoint_and_says_so(user_folder: Path, uninterrupted: bytes) -> None:
    assert main([*ARGUMENTS, "--deadline_seconds", "0.2"]) == 3
    assert _metrics(user_folder / "out.checkpoint")["status"] == "stopped_at_deadline"
    assert not (user_folder / "out").exists()
    assert main([*ARGUMENTS]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted


@pytest.mark.parametrize("own", [("--use_peft", "false"), ("--lora_dropout", "0.1")])
def test_a_language_model_goes_on_to_the_bits_of_an_uninterrupted_run(own: tuple[str, ...], user_folder: Path) -> None:
    often = (*LANGUAGE_MODEL, *own)
    assert main([*often]) == 0
    whole = artifact_content(user_folder / "out")
    shutil.rmtree(user_folder / "out")
    assert _stopped_by(signal.SIGTERM, user_folder, epochs=1, arguments=often) == 3
    assert _metrics(user_folder / "out.checkpoint")["train"]["steps"] < whole["effort"]["steps"]
    assert main([*often, "--resume_from_checkpoint", "true"]) == 0
    assert artifact_content(user_folder / "out") == whole


def test_a_stop_while_a_checkpoint_is_read_keeps_it(
    user_folder: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _stopped_by(signal.SIGTERM, user_folder) == 3
    steps = _metrics(user_folder / "out.checkpoint")["train"]["steps"]
    load = Checkpoints.load

    def load_and_be_interrupted(self: Checkpoints, path: Path, **more: Any) -> Any:
        loaded = load(self, path, **more)
        os.kill(os.getpid(), signal.SIGINT)
        return loaded

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "load", load_and_be_interrupted)
        assert main([*ARGUMENTS]) == 3
    [checkpoint] = (user_folder / "out.checkpoint").glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{steps}"
    assert main([*ARGUMENTS]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted


def test_a_checkpoint_of_another_recipe_is_refused_unless_dropped(
    user_folder: Path, uninterrupted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, "--seed", "7", "--deadline_seconds", "0"]) == 3
    assert main([*ARGUMENTS]) == 2
    assert "checkpoint of another recipe" in capsys.readouterr().err
    assert (user_folder / "out.checkpoint" / "checkpoint-0").is_dir()
    assert main([*ARGUMENTS, "--resume_from_checkpoint", "false"]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted


def test_a_damaged_checkpoint_costs_the_way_back_to_the_one_before_it(
    user_folder: Path, uninterrupted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    often = [*ARGUMENTS, "--checkpoint_seconds", "0", "--save_total_limit", "3"]
    assert main([*often, "--deadline_seconds", "1"]) == 3
    *_, before, newest = sorted(
        (user_folder / "out.checkpoint").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime
    )
    os.truncate(newest / "model.safetensors", 1000)
    capsys.readouterr()
    assert main([*often, "--deadline_seconds", "0"]) == 3
    assert f"{newest} is damaged: model.safetensors has 1,000 of" in capsys.readouterr().out
    assert before.exists()
    assert main([*often]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted


def test_with_every_checkpoint_damaged_the_run_is_refused_until_it_is_to_start_anew(
    user_folder: Path, uninterrupted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _stopped_by(signal.SIGTERM, user_folder) == 3
    [checkpoint] = (user_folder / "out.checkpoint").glob("checkpoint-*")
    (checkpoint / "state.json").write_text("")
    assert main([*ARGUMENTS]) == 2
    errors = capsys.readouterr().err.splitlines()[-1]
    assert "state.json cannot be read" in errors
    assert "start over with --resume_from_checkpoint false" in errors
    assert checkpoint.exists()
    assert main([*ARGUMENTS, "--resume_from_checkpoint", "false"]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted


def test_resuming_without_a_checkpoint_is_refused_when_it_is_asked_for(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, "--resume_from_checkpoint", "true"]) == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert not (user_folder / "out").exists()
