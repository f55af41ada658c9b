"""SIGKILL at random instants of real runs: nothing half-made is ever under the final name, and nothing is lost.

$KILLS and $KILL_SEED set the number of kills and the seed.
"""

from __future__ import annotations

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
from src.training.testing.forked_runs import Aim, load_libraries, start, start_run, wait
from src.training.testing.tiny_model import build_tiny_model, write_sentences

KILLS, SEED = int(os.environ.get("KILLS", "54")), int(os.environ.get("KILL_SEED", "1"))
MATERIAL = {"base", "train.csv", "dev.csv", "test.csv"}
# A checkpoint after each of 15 steps, in either recipe. Many labels are wrong: the best epoch may be an earlier one.
ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--validation_file", "dev.csv"),
    *("--test_file", "test.csv", "--max_seq_length", "16", "--per_device_train_batch_size", "4"),
    *("--learning_rate", "3e-2", "--num_train_epochs", "3", "--output_dir", "out"),
    *("--checkpoint_seconds", "0", "--save_total_limit", "2", "--overwrite_output_dir", "true"),
)
# One recipe's model replaces the other's again and again; the second is trained by two processes.
RECIPES = (
    ("--seed", "1", "--threads", "1"),
    ("--seed", "2", "--threads", "2", "--per_device_train_batch_size", "8", "--num_train_epochs", "5"),
)
NOT_OURS = ("TEST_TIMEOUT", "TEST_UNDECLARED_OUTPUTS_DIR")

# What an artifact holds, by the fingerprint of its recipe.
Known = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Uninterrupted:
    """What runs make that nothing kills: by fingerprint, in the order of RECIPES, and the seconds of one."""

    known: Known
    fingerprints: list[str]
    seconds: float


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and rows; made by a child, so that this process stays without threads."""
    load_libraries()
    folder = tmp_path_factory.mktemp("material")

    def work() -> int:
        build_tiny_model(folder / "base")
        write_sentences(folder / "train.csv", rows=20, seed=1, noise=0.3)
        write_sentences(folder / "dev.csv", rows=10, seed=3, noise=0.2)
        write_sentences(folder / "test.csv", rows=10, seed=2)
        return 0

    assert wait(start(work, log=folder.parent / "material.log")) == 0
    return folder


@pytest.fixture
def here(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a model and rows."""
    for name in NOT_OURS:
        monkeypatch.delenv(name, raising=False)
    folder = shutil.copytree(material, tmp_path / "here")
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(folder))
    return folder


def run(here: Path, recipe: Sequence[str], *, aim: Aim | None = None) -> int:
    """Starts a run; what it prints goes to a file beside the folder."""
    return start_run([*ARGUMENTS, *recipe], log=here.parent / "log", aim=aim)


def told(here: Path) -> str:
    """What the last run printed."""
    return (here.parent / "log").read_text()


def check_whole(folder: Path, known: Known) -> str:
    """Fails unless an artifact is exactly that of its recipe; returns the recipe's fingerprint."""
    found = artifact_content(folder)
    expected = known[found["fingerprint"]]
    for part, value in expected.items():
        assert found[part] == value, f"{folder}: {part} is not that of an uninterrupted run"
    return str(found["fingerprint"])


def check_loads(here: Path) -> None:
    """Fails unless a user can load what stands under the final name."""

    def work() -> int:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        model = AutoModelForSequenceClassification.from_pretrained(here / "out")
        tokens = AutoTokenizer.from_pretrained(here / "out")("the film was great", return_tensors="pt")
        return 0 if model(**tokens).logits.shape == (1, 2) else 1

    assert wait(start(work, log=here.parent / "log-of-loading")) == 0


@pytest.fixture(scope="module")
def uninterrupted(material: Path) -> Uninterrupted:
    """What each recipe makes where nothing kills it."""
    found, seconds = [], 0.0
    with pytest.MonkeyPatch.context() as patch:
        for name in NOT_OURS:
            patch.delenv(name, raising=False)
        patch.setenv("BUILD_WORKING_DIRECTORY", str(material))
        for recipe in RECIPES:
            started = time.monotonic()
            assert wait(run(material, recipe)) == 0, told(material)
            seconds = time.monotonic() - started
            found.append(artifact_content(material / "out"))
            # Whatever has the same bits will load as well.
            check_loads(material)
            shutil.rmtree(material / "out")
    assert found[0]["sha256"]["model.safetensors"] != found[1]["sha256"]["model.safetensors"]
    fingerprints = [one["fingerprint"] for one in found]
    return Uninterrupted(known=dict(zip(fingerprints, found, strict=True)), fingerprints=fingerprints, seconds=seconds)


def killed_run(here: Path, recipe: Sequence[str], *, choose: random.Random, seconds: float) -> int:
    """Runs and kills; returns the exit code, which is 0 where the run was faster."""
    # By time; and from the first file of a checkpoint, of the staging folder, or of the commit so many operations on.
    aims = [None, ("checkpoint/.partial", 100), (".out.partial", 100), ("/out$", 12)]
    chosen = choose.choice(aims)
    if chosen is None:
        process = run(here, recipe)
        time.sleep(choose.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        return wait(process)
    path, most = chosen
    # The commit begins as the older model is moved out of the way.
    event = "os.rename" if path == "/out$" else ""
    return wait(run(here, recipe, aim=Aim(path=path, event=event, operations=choose.randrange(most))))


def instant(here: Path) -> str:
    """What a killed run was about, by what it left."""
    names = {path.name for path in here.iterdir()}
    if any(name.startswith(".out.retired") for name in names):
        return "commit"
    if any(name.startswith(".out.partial") for name in names):
        return "staging"
    if any((here / "out.checkpoint").glob(".partial-*")):
        return "checkpoint"
    return "other"


def check_after_kill(here: Path, known: Known, *, had_model: bool) -> None:
    """Fails unless the final name holds a whole model or none, and none only where none was there before."""
    if (here / "out").exists():
        check_whole(here / "out", known)
        return
    retired = list(here.glob(".out.retired-*"))
    assert bool(retired) == had_model, "the older model is gone"
    for folder in retired:
        check_whole(folder, known)


def check_finished(here: Path, known: Known) -> str:
    """Fails unless there is a whole model and nothing else; returns its recipe's fingerprint."""
    assert {path.name for path in here.iterdir()} == {*MATERIAL, "out"}, "something was left behind"
    return check_whole(here / "out", known)


def test_killed_at_any_instant_a_run_leaves_whole_models_and_goes_on_to_the_same_bits(
    here: Path, uninterrupted: Uninterrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    choose, known = random.Random(SEED), uninterrupted.known
    kills: Counter[str] = Counter()
    finished = resumed = 0
    code = 0
    while kills.total() < KILLS or code:
        recipe = RECIPES[finished % 2]
        if kills.total() < KILLS:
            code = killed_run(here, recipe, choose=choose, seconds=uninterrupted.seconds)
        else:
            code = wait(run(here, recipe))
        if code == -signal.SIGKILL:
            kills[instant(here)] += 1
            check_after_kill(here, known, had_model=finished > 0)
            continue
        assert code == 0, told(here)
        resumed += "Resuming from" in told(here)
        assert check_finished(here, known) == uninterrupted.fingerprints[finished % 2]
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
    here: Path, uninterrupted: Uninterrupted, aim: Aim, left: str
) -> None:
    known, (old, new) = uninterrupted.known, uninterrupted.fingerprints
    assert wait(run(here, RECIPES[0])) == 0
    assert wait(run(here, RECIPES[1], aim=aim)) == -signal.SIGKILL
    check_after_kill(here, known, had_model=True)
    if left == "none":
        assert not (here / "out").exists()
    else:
        assert check_whole(here / "out", known) == {"old": old, "new": new}[left]
    assert wait(run(here, RECIPES[1])) == 0, told(here)
    assert check_finished(here, known) == new


@pytest.mark.parametrize(("recipes", "apart"), [((0, 0), 0.0), ((0, 1), 0.0), ((0, 1), 0.2)])
def test_of_two_runs_at_once_one_is_refused_and_the_other_whole(
    here: Path, uninterrupted: Uninterrupted, recipes: tuple[int, int], apart: float
) -> None:
    processes = []
    for number, recipe in enumerate(recipes):
        processes.append(start_run([*ARGUMENTS, *RECIPES[recipe]], log=here.parent / f"log-{number}"))
        time.sleep(apart)
    codes = [wait(process) for process in processes]
    logs = [(here.parent / f"log-{number}").read_text() for number in (0, 1)]
    assert sorted(codes) == [0, 2], logs
    winner = codes.index(0)
    assert logs[1 - winner].count("another run is at work on") == 1
    assert check_finished(here, uninterrupted.known) == uninterrupted.fingerprints[recipes[winner]]
