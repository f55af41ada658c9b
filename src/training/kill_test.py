"""SIGKILL at random instants of real runs: nothing half-made is ever under the final name, and nothing is lost.

$KILLS and $KILL_SEED set the number of kills and the seed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from src.training.testing.artifact_content import artifact_content
from src.training.testing.forked_runs import Aim, start, start_run, wait
from src.training.testing.program_runs import called_from
from src.training.testing.user_folder import copy_of_inputs, write_inputs_in_a_fork

KILLS, SEED = int(os.environ.get("KILLS", "18")), int(os.environ.get("KILL_SEED", "1"))
INPUTS = {"base", "chat", *(f"{part}.{ending}" for part in ("train", "dev", "test") for ending in ("csv", "jsonl"))}
# A checkpoint after each of 15 steps, in either recipe. Many labels are wrong: the best epoch may be an earlier one.
ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--validation_file", "dev.csv"),
    *("--test_file", "test.csv", "--max_seq_length", "16", "--per_device_train_batch_size", "4"),
    *("--learning_rate", "3e-2", "--num_train_epochs", "3", "--output_dir", "out"),
    *("--checkpoint_seconds", "0", "--save_total_limit", "2", "--overwrite_output_dir", "true"),
)
# One recipe's model replaces the other's again and again; the second and third are trained by two processes. The third
# is a language model with its adapter.
RECIPES = (
    ("--seed", "1", "--threads", "1"),
    ("--seed", "2", "--threads", "2", "--per_device_train_batch_size", "8", "--num_train_epochs", "5"),
    (
        *("--seed", "3", "--threads", "2", "--model_name_or_path", "chat", "--train_file", "train.jsonl"),
        *("--validation_file", "dev.jsonl", "--test_file", "test.jsonl"),
        # As without the flag, which is a classifier's.
        *("--max_generate_samples", "2", "--max_new_tokens", "4", "--max_seq_length", "128"),
    ),
)

# What an artifact holds, by the fingerprint of its recipe.
Known = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Uninterrupted:
    """What runs make that nothing kills: by fingerprint, in the order of RECIPES, and the seconds of one."""

    known: Known
    fingerprints: list[str]
    seconds: float


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and rows; made by a child, so that this process stays without threads."""
    return write_inputs_in_a_fork(tmp_path_factory.mktemp("inputs"), train=20, dev=10, test=10)


user_folder = pytest.fixture(copy_of_inputs)


def run(user_folder: Path, recipe: Sequence[str], *, aim: Aim | None = None) -> int:
    """Starts a run; what it prints goes to a file beside the folder."""
    return start_run([*ARGUMENTS, *recipe], log=user_folder.parent / "log", aim=aim)


def printed(user_folder: Path) -> str:
    """What the last run printed."""
    return (user_folder.parent / "log").read_text()


def check_whole(folder: Path, known: Known) -> str:
    """Fails unless an artifact is exactly that of its recipe; returns the recipe's fingerprint."""
    content = artifact_content(folder)
    expected = known[content["fingerprint"]]
    for part, value in expected.items():
        assert content[part] == value, f"{folder}: {part} is not that of an uninterrupted run"
    return str(content["fingerprint"])


def check_loads(user_folder: Path) -> None:
    """Fails unless a user can load what stands under the final name."""

    def work() -> int:
        import transformers

        kind = json.loads((user_folder / "out" / "config.json").read_text())["architectures"][0]
        model = getattr(transformers, kind).from_pretrained(user_folder / "out")
        tokenizer = transformers.AutoTokenizer.from_pretrained(user_folder / "out")
        return 0 if model(**tokenizer("the film was great", return_tensors="pt")).logits.isfinite().all() else 1

    assert wait(start(work, log=user_folder.parent / "log-of-loading")) == 0


@pytest.fixture(scope="module")
def uninterrupted(inputs: Path) -> Uninterrupted:
    """What each recipe makes where nothing kills it."""
    contents, seconds = [], float("inf")
    with called_from(inputs):
        for recipe in RECIPES:
            started = time.monotonic()
            assert wait(run(inputs, recipe)) == 0, printed(inputs)
            seconds = min(seconds, time.monotonic() - started)
            contents.append(artifact_content(inputs / "out"))
            # Whatever has the same bits will load as well.
            check_loads(inputs)
            shutil.rmtree(inputs / "out")
    assert len({one["sha256"]["model.safetensors"] for one in contents}) == len(RECIPES)
    fingerprints = [one["fingerprint"] for one in contents]
    return Uninterrupted(
        known=dict(zip(fingerprints, contents, strict=True)), fingerprints=fingerprints, seconds=seconds
    )


def killed_run(user_folder: Path, recipe: Sequence[str], *, choose: random.Random, seconds: float) -> int:
    """Runs and kills; returns the exit code, which is 0 where the run was faster."""
    # By time; and from the first file of a checkpoint, of the staging folder, or of the commit so many operations on.
    aims = [None, ("checkpoint/.partial", 100), (".out.partial", 100), ("/out$", 12)]
    chosen = choose.choice(aims)
    if chosen is None:
        process = run(user_folder, recipe)
        time.sleep(choose.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        return wait(process)
    path, max_operations = chosen
    # The commit begins as the older model is moved out of the way.
    event = "os.rename" if path == "/out$" else ""
    return wait(run(user_folder, recipe, aim=Aim(path=path, event=event, operations=choose.randrange(max_operations))))


def instant(user_folder: Path) -> str:
    """What a killed run was about, by what it left."""
    names = {path.name for path in user_folder.iterdir()}
    if any(name.startswith(".out.retired") for name in names):
        return "commit"
    if any(name.startswith(".out.partial") for name in names):
        return "staging"
    if any((user_folder / "out.checkpoint").glob(".partial-*")):
        return "checkpoint"
    return "other"


def check_after_kill(user_folder: Path, known: Known, *, had_model: bool) -> None:
    """Fails unless the final name holds a whole model or none, and none only where none was there before."""
    if (user_folder / "out").exists():
        check_whole(user_folder / "out", known)
        return
    retired = list(user_folder.glob(".out.retired-*"))
    assert bool(retired) == had_model, "the older model is gone"
    for folder in retired:
        check_whole(folder, known)


def check_finished(user_folder: Path, known: Known) -> str:
    """Fails unless there is a whole model and nothing else; returns its recipe's fingerprint."""
    assert {path.name for path in user_folder.iterdir()} == {*INPUTS, "out"}, "something was left behind"
    return check_whole(user_folder / "out", known)


def test_killed_at_any_instant_a_run_leaves_whole_models_and_goes_on_to_the_same_bits(
    user_folder: Path, uninterrupted: Uninterrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    choose, known = random.Random(SEED), uninterrupted.known
    kills: Counter[str] = Counter()
    finished = resumed = 0
    code = 0
    while kills.total() < KILLS or code:
        recipe = RECIPES[finished % len(RECIPES)]
        if kills.total() < KILLS:
            code = killed_run(user_folder, recipe, choose=choose, seconds=uninterrupted.seconds)
        else:
            code = wait(run(user_folder, recipe))
        if code == -signal.SIGKILL:
            kills[instant(user_folder)] += 1
            check_after_kill(user_folder, known, had_model=finished > 0)
            continue
        assert code == 0, printed(user_folder)
        resumed += "Resuming from" in printed(user_folder)
        assert check_finished(user_folder, known) == uninterrupted.fingerprints[finished % len(RECIPES)]
        finished += 1
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {kills.total()} kills {dict(kills)}, 0 bad artifacts; {finished} runs finished in "
            f"between, {resumed} of them from a checkpoint, all with the bits of uninterrupted runs"
        )
    assert all(kills[kind] for kind in ("commit", "staging", "checkpoint"))
    assert resumed > 0


@pytest.mark.parametrize(
    ("aim", "left"),
    [
        (Aim(event="os.rename", path="/out$"), "old"),
        (Aim(event="os.rename", path=r"/\.out\.partial-\d+$"), "none"),
        (Aim(event="shutil.rmtree", path=r"/\.out\.retired-\d+$"), "new"),
        (Aim(event="shutil.rmtree", path="/out.checkpoint$"), "new"),
    ],
)
def test_around_the_commit_there_is_the_old_model_or_the_new_one(
    user_folder: Path, uninterrupted: Uninterrupted, aim: Aim, left: str
) -> None:
    known, (old, new, _) = uninterrupted.known, uninterrupted.fingerprints
    assert wait(run(user_folder, RECIPES[0])) == 0
    assert wait(run(user_folder, RECIPES[1], aim=aim)) == -signal.SIGKILL
    check_after_kill(user_folder, known, had_model=True)
    if left == "none":
        assert not (user_folder / "out").exists()
    else:
        assert check_whole(user_folder / "out", known) == {"old": old, "new": new}[left]
    assert wait(run(user_folder, RECIPES[1])) == 0, printed(user_folder)
    assert check_finished(user_folder, known) == new


@pytest.mark.parametrize(("recipes", "apart"), [((0, 0), 0.0), ((0, 1), 0.0), ((0, 1), 0.2)])
def test_of_two_runs_at_once_one_is_refused_and_the_other_whole(
    user_folder: Path, uninterrupted: Uninterrupted, recipes: tuple[int, int], apart: float
) -> None:
    processes = []
    for number, recipe in enumerate(recipes):
        processes.append(start_run([*ARGUMENTS, *RECIPES[recipe]], log=user_folder.parent / f"log-{number}"))
        time.sleep(apart)
    codes = [wait(process) for process in processes]
    logs = [(user_folder.parent / f"log-{number}").read_text() for number in (0, 1)]
    assert sorted(codes) == [0, 2], logs
    winner = codes.index(0)
    assert logs[1 - winner].count("another run is at work on") == 1
    assert check_finished(user_folder, uninterrupted.known) == uninterrupted.fingerprints[recipes[winner]]
