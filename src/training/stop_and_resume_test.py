"""A run that is stopped, killed or out of time, and the run after it: end to end, with real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.training.testing.artifact_content import artifact_content
from src.training.testing.forked_runs import start, start_run, wait
from src.training.testing.stopped_training import stopped_after
from src.training.testing.user_folder import copy_of_inputs, write_inputs_in_a_fork
from src.training.train_model import main

# Long enough to be stopped in the middle. Many labels of the train rows are wrong, so the last epoch is not the best
# one, and a checkpoint has to carry the best one's weights as well.
ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv"),
    *("--validation_file", "dev.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "16", "--per_device_train_batch_size", "4", "--learning_rate", "3e-2"),
    *("--num_train_epochs", "6", "--threads", "1", "--output_dir", "out"),
)
EPOCHS, STEPS, BEST = 6, 150, 3
# After the first step, and after the epoch whose weights are kept.
EARLY, LATE = 0, 85
INPUTS = {"base", "chat", *(f"{part}.{ending}" for part in ("train", "dev", "test") for ending in ("csv", "jsonl"))}
LANGUAGE_MODEL = (
    *("--model_name_or_path", "chat", "--train_file", "train.jsonl", "--validation_file", "dev.jsonl"),
    *("--test_file", "test.jsonl", "--max_generate_samples", "2", "--max_new_tokens", "4", "--threads", "2"),
    *("--num_train_epochs", "2", "--output_dir", "out"),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and rows; made by a child, so that this process stays without threads."""
    return write_inputs_in_a_fork(tmp_path_factory.mktemp("inputs"), train=100, dev=40, test=20)


user_folder = pytest.fixture(copy_of_inputs)


@pytest.fixture(scope="module")
def uninterrupted(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nothing stopped."""
    folder = shutil.copytree(inputs, tmp_path_factory.mktemp("uninterrupted") / "user_folder")
    log = folder.parent / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUILD_WORKING_DIRECTORY", str(folder))
        assert wait(start_run(ARGUMENTS, log=log)) == 0, log.read_text()
    return (folder / "out" / "model.safetensors").read_bytes()


@pytest.fixture
def program(user_folder: Path) -> Iterator[Program]:
    """The program in a process of its own, in the middle of training."""
    running = Program(user_folder)
    try:
        running.wait_for_a_step()
        yield running
    finally:
        running.end()


class Program:
    """The program in a forked process. Tests that fork come first: where a run was in this process, threads stay."""

    def __init__(self, user_folder: Path) -> None:
        """Starts it."""
        pipe, self._errors = user_folder.parent / "stdout", user_folder.parent / "stderr"
        self._events = user_folder / "out.checkpoint" / "events.jsonl"
        os.mkfifo(pipe)
        # Its other end, which is open before the program's is, so that neither waits for the other.
        self.stdout = os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        os.set_blocking(self.stdout.fileno(), True)
        self._code: int | None = None

        def work() -> int:
            # With this end left open it would itself be a reader of what it prints.
            self.stdout.close()
            return main([*ARGUMENTS, "--num_train_epochs", "2000"])

        self._process = start(work, log=pipe, errors=self._errors)

    def wait_for_a_step(self) -> None:
        """Returns when a step is done."""
        give_up = time.monotonic() + 120
        while not (self._events.is_file() and '"event": "step"' in self._events.read_text()):
            assert time.monotonic() < give_up and self._is_running(), f"no training: {self._errors.read_text()}"
            time.sleep(0.01)

    def _is_running(self) -> bool:
        return bool(psutil.Process(self._process).status() != psutil.STATUS_ZOMBIE)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self._process, number)

    def wait(self) -> tuple[int, str]:
        """Returns its exit code and what it wrote to standard error, once it has ended."""
        if self._code is None:
            self._code = wait(self._process)
        return self._code, self._errors.read_text()

    def end(self) -> None:
        """Ends it, if it has not ended."""
        if self._code is None:
            self.send(signal.SIGKILL)
            self.wait()
        self.stdout.close()


def _stopped_after(step: int, *, by: signal.Signals = signal.SIGTERM, arguments: Sequence[str] = ARGUMENTS) -> int:
    """Runs the program in this process, which gets a signal after a step, counted from 0; returns its exit code."""
    with stopped_after(step, by=by):
        return main([*arguments])


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def _steps(folder: Path) -> list[int]:
    return [event["step"] for event in _events(folder) if event["event"] == "step"]


def _metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_ctrl_c_ends_the_program_in_time_with_a_checkpoint(program: Program, user_folder: Path) -> None:
    started = time.monotonic()
    program.send(signal.SIGINT)
    code, errors = program.wait()
    # Of hundreds of epochs that are left, none is trained to its end.
    assert (code, time.monotonic() - started < 30) == (3, True)
    assert "rerun the command to resume" in errors
    assert "Traceback" not in errors
    assert {path.name for path in user_folder.iterdir()} == {*INPUTS, "out.checkpoint"}
    metrics = _metrics(user_folder / "out.checkpoint")
    assert (metrics["status"], metrics["after"]) == ("interrupted", None)
    assert metrics["train"]["steps"] > 0


def test_a_program_whose_lines_nobody_reads_any_more_ends_with_a_checkpoint(
    program: Program, user_folder: Path
) -> None:
    # What is said of the rows comes first.
    assert any(line.startswith("Recipe") for line in iter(program.stdout.readline, ""))
    program.stdout.close()
    code, errors = program.wait()
    assert code == 3
    assert errors.splitlines() == [
        "train_model: stopped (standard output: nobody reads it any more): rerun the command to resume"
    ]
    assert _metrics(user_folder / "out.checkpoint")["status"] == "interrupted"
    assert any((user_folder / "out.checkpoint").glob("checkpoint-*"))


def test_a_killed_program_leaves_nothing_under_the_final_name_and_nothing_in_the_way(
    uninterrupted: bytes, program: Program, user_folder: Path
) -> None:
    program.send(signal.SIGKILL)
    program.wait()
    assert not (user_folder / "out").exists()
    assert main([*ARGUMENTS]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted
    assert {path.name for path in user_folder.iterdir()} == {*INPUTS, "out"}
    # Nor do steps of the killed run stand among the events.
    assert _steps(user_folder / "out") == list(range(1, STEPS + 1))


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, EARLY), (signal.SIGTERM, LATE)])
def test_the_same_command_goes_on_to_the_bits_of_an_uninterrupted_run(
    number: signal.Signals, step: int, user_folder: Path, uninterrupted: bytes
) -> None:
    assert _stopped_after(step, by=number) == 3
    stopped = _metrics(user_folder / "out.checkpoint")
    assert stopped["status"] == "interrupted"
    assert not (user_folder / "out").exists()
    assert main([*ARGUMENTS, "--resume_from_checkpoint", "true"]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted
    assert not (user_folder / "out.checkpoint").exists()
    train = _metrics(user_folder / "out")["train"]
    assert 0 < stopped["train"]["steps"] < train["steps"]
    # What was done before the stop counts, and nothing twice.
    assert train["examples"] == EPOCHS * 100
    assert train["seconds"] > stopped["train"]["seconds"]
    assert _steps(user_folder / "out") == list(range(1, train["steps"] + 1))
    scores = [
        (event["accuracy"], -event["loss"]) for event in _events(user_folder / "out") if event["event"] == "evaluation"
    ]
    assert len(scores) == EPOCHS
    assert scores.index(max(scores)) == BEST - 1, "the best epoch is to be one that a checkpoint has to carry"


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
    # In the second of two epochs.
    assert _stopped_after(whole["effort"]["steps"] // 2, arguments=often) == 3
    assert _metrics(user_folder / "out.checkpoint")["train"]["steps"] < whole["effort"]["steps"]
    assert main([*often, "--resume_from_checkpoint", "true"]) == 0
    assert artifact_content(user_folder / "out") == whole


def test_a_stop_while_a_checkpoint_is_read_keeps_it(
    user_folder: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.training.engine.checkpoints import Checkpoints

    assert _stopped_after(EARLY) == 3
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
    assert _stopped_after(10, arguments=often) == 3
    *_, before, newest = sorted(
        (user_folder / "out.checkpoint").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime
    )
    os.truncate(newest / "model.safetensors", 1000)
    capsys.readouterr()
    assert main([*often, "--deadline_seconds", "0"]) == 3
    assert f"{newest} is damaged: model.safetensors has 1,000 of" in capsys.readouterr().out
    assert before.exists()
    assert main([*ARGUMENTS]) == 0
    assert (user_folder / "out" / "model.safetensors").read_bytes() == uninterrupted


def test_with_every_checkpoint_damaged_the_run_is_refused_until_it_is_to_start_anew(
    user_folder: Path, uninterrupted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _stopped_after(EARLY) == 3
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
