"""The shim gives the program what an executor may leave out, and passes on what it gets and what it gives back."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

SHIMS = {"run_training.sh": "train_model", "run_cache_manager.sh": "cache_manager"}
# Prints what it was given, and ends with a code of its own.
PROGRAM = '#!/bin/bash\nprintf "%s|" "$HOME" "$HF_HOME" "$TMPDIR" "${FINETUNE_CACHE_DIR-}" "$@"\nexit 3\n'


@pytest.fixture(params=sorted(SHIMS))
def shim(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A shim with a program beside it, in a folder that cannot be written to."""
    [source] = Path(__file__).resolve().parents[1].glob(f"*/{request.param}")
    folder = tmp_path / "inputs"
    folder.mkdir()
    copy = Path(shutil.copy(source, folder))
    program = folder / SHIMS[request.param]
    program.write_text(PROGRAM)
    for path in (copy, program, folder):
        path.chmod(0o555)
    return copy


def run(shim: Path, *arguments: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run([shim, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    return done.stdout.split("|")[:-1]


def test_an_empty_environment_is_enough_and_nothing_is_left_behind(shim: Path) -> None:
    home, hub, scratch, cache, *arguments = run(shim, "--seed", "a b", "", environment={})
    assert arguments == ["--seed", "a b", ""]
    assert bool(cache) == (shim.name == "run_cache_manager.sh")
    assert len({home, hub, scratch, cache}) == 4
    assert not any(Path(path).exists() for path in (home, hub, scratch))


def test_everything_is_written_below_the_scratch_folder_of_the_test(shim: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    given = run(shim, environment={"TEST_TMPDIR": str(scratch), "HOME": "/elsewhere", "HF_HOME": "/elsewhere/hub"})
    assert all(Path(path).is_relative_to(scratch) for path in given[:3])
    assert all(Path(path).is_dir() for path in given[:3])


def test_the_packed_checkpoint_of_a_stopped_run_is_laid_out_beside_the_model(tmp_path: Path) -> None:
    [source] = Path(__file__).resolve().parents[1].glob("*/run_training.sh")
    (tmp_path / "src" / "training" / "resume" / "training_test").mkdir(parents=True)
    shim = Path(shutil.copy(source, tmp_path / "src" / "training"))
    (shim.parent / "train_model").write_text(PROGRAM)
    (shim.parent / "train_model").chmod(0o555)
    (tmp_path / "state.json").write_text("{}")
    with tarfile.open(shim.parent / "resume" / "training_test" / "model.checkpoint.tar", "w") as packed:
        packed.add(tmp_path / "state.json", "model.checkpoint/checkpoint-1/state.json")
    outputs = tmp_path / "outputs"
    done = subprocess.run(
        [shim], env={"TEST_UNDECLARED_OUTPUTS_DIR": str(outputs)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert (outputs / "model.checkpoint" / "checkpoint-1" / "state.json").read_text() == "{}"
    assert "going on from src/training/resume" in done.stdout
