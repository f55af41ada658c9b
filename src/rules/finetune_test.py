"""The action's folder is the same bytes wherever and whenever it is made; what varies is in the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from src.cli.errors import EXIT_STOPPED, EXIT_WRONG_REQUEST, MachineError
from src.rules import finetune
from src.training import train_model
from src.training.environment import determinism
from src.training.testing.forked_runs import load_libraries, run_program
from src.training.testing.program_runs import read_json
from src.training.testing.tiny_model import build_tiny_model, write_sentences


def action(
    place: Path, *flags: str, point: Sequence[str] = (), in_fork: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs the program as an executor does, in a folder with its inputs at places of their own.

    Args:
        place: the folder.
        *flags: of the training, more than it needs.
        point: flags for a point of a sweep.
        in_fork: in a process that has loaded the libraries, without the settings that they read as they are loaded.
    """
    inputs = [(f"base/{path.name}", path.relative_to(place)) for path in sorted((place / "base").iterdir())]
    inputs += [(f"data/{path.name}", path.relative_to(place)) for path in sorted((place / "rows").iterdir())]
    command = ["--model=out/model", "--run=out/run"]
    command += [word for name, path in inputs for word in ("--input", name, str(path))]
    command += [*point, "--", "--model_name_or_path=./base"]
    command += ["--train_file=data/train.csv", "--max_seq_length=32", "--reproducible=portable", *flags]
    environment = {"PYTHONPATH": ":".join([str(Path(__file__).parents[2]), *sys.path])}
    if in_fork:
        environment |= determinism._PORTABLE_ENVIRONMENT
        done = run_program(finetune.main, *command, folder=place, environment=environment)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    command = [sys.executable, "-m", "src.rules.finetune", *command]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True, scope="module")
def libraries() -> None:
    load_libraries()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "base")


def place_of(base: Path, place: Path) -> Path:
    (place / "rows").mkdir(parents=True)
    (place / "base").symlink_to(base)
    write_sentences(place / "rows" / "train.csv", rows=60, seed=1)
    return place


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_places_give_the_same_bytes(base: Path, tmp_path: Path) -> None:
    places = [place_of(base, tmp_path / name) for name in ("here", "at another/path")]
    # As Bazel on this machine does, and an executor does not.
    for name in ("model", "run"):
        (places[0] / "out" / name).mkdir(parents=True)
    for place in places:
        done = action(place, in_fork=True)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    here, there = (content(place / "out" / "model") for place in places)
    assert here == there
    assert not {"events.jsonl", "report.html"} & here.keys()
    assert b"report.html" not in here["README.md"]
    assert not [name for name, data in here.items() if str(tmp_path).encode() in data]
    recipe = read_json(places[0] / "out/model/recipe.json")["recipe"]
    assert (recipe["model_name_or_path"], recipe["train_file"]) == ("./base", "data/train.csv")
    run = content(places[0] / "out" / "run")
    assert run.keys() == {"events.jsonl", "metrics.json", "report.html", "training.log"}
    assert b"Training The Model" in run["training.log"]
    assert read_json(places[0] / "out/model/metrics.json")["validation"] is None, (
        "its validation rows are the test rows"
    )
    whole = read_json(places[0] / "out/run/metrics.json")
    assert whole["after"] == read_json(places[0] / "out/model/metrics.json")["after"]
    assert whole["train"]["seconds"] > 0


def test_a_training_that_takes_too_long_says_that_it_starts_over(base: Path, tmp_path: Path) -> None:
    place = place_of(base, tmp_path / "place")
    done = action(place, "--deadline_seconds=0", in_fork=True)
    assert done.returncode == EXIT_STOPPED
    assert done.stderr.endswith("starts over: raise timeout_seconds of the target, or train less\n")
    assert content(place / "out" / "model") == {}


def test_a_wrong_flag_fails_in_one_sentence(base: Path, tmp_path: Path) -> None:
    place = place_of(base, tmp_path / "place")
    done = action(place, "--learning_rate=2")
    assert (done.returncode, done.stderr) == (2, "train_model: --learning_rate must lie between 0 and 1, not '2'\n")
    assert content(place / "out" / "model") == {}


POINT = ("--outcome=out/outcome.json", "--cost=out/cost.json")


def test_a_refused_point_of_a_sweep_is_a_result(base: Path, tmp_path: Path) -> None:
    place = place_of(base, tmp_path / "place")
    done = action(place, "--learning_rate=2", point=POINT)
    assert done.returncode == 0
    outcome = read_json(place / "out/outcome.json")
    assert (outcome["status"], outcome["message"]) == ("refused", "--learning_rate must lie between 0 and 1, not '2'")
    assert content(place / "out" / "model") == {}
    assert read_json(place / "out/cost.json")["cpu_seconds"] > 0


def test_what_may_go_better_next_time_is_no_result(base: Path, tmp_path: Path) -> None:
    place = place_of(base, tmp_path / "place")
    assert action(place, "--deadline_seconds=0", point=POINT, in_fork=True).returncode == EXIT_STOPPED
    assert not (place / "out/outcome.json").exists()


def test_too_little_memory_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_flags: list[str]) -> int:
        raise MachineError("training needs 9 GB, and 1 GB is available")

    monkeypatch.setattr(train_model, "train", refuse)
    monkeypatch.setattr("os.environ", {**os.environ})
    for name in ("model", "run"):
        (tmp_path / name).mkdir()
    outcome = tmp_path / "outcome.json"
    flags = [f"--model={tmp_path}/model", f"--run={tmp_path}/run", f"--outcome={outcome}", "--cost=cost", "--"]
    assert finetune.main(flags) == EXIT_WRONG_REQUEST
    assert not outcome.exists()
    assert capfd.readouterr().err == "train_model: training needs 9 GB, and 1 GB is available\n"
