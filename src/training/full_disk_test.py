"""A disk that is full, on a file system of a few kilobytes: one sentence, nothing half-made, and the way on is open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.training.testing.mounts import mount_namespace
from src.training.testing.user_folder import write_inputs

ARGUMENTS = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "16", "--per_device_train_batch_size", "8", "--learning_rate", "2e-2"),
    *("--num_train_epochs", "2", "--threads", "1"),
)
# In a mount namespace of its own, which takes the file system along when it ends: mounts one of so many kilobytes on
# the first argument, and for each further (kilobytes, flags) makes it so large, runs the program and removes its model.
_INSIDE = """
import hashlib, io, json, shutil, subprocess, sys
from contextlib import redirect_stderr
from pathlib import Path
from src.training.train_model import main

disk, runs, results = Path(sys.argv[1]), json.loads(sys.argv[2]), []
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
for kilobytes, flags in runs:
    # With the file system named, mount reads no earlier options: in an ordinary user's namespace they would be refused.
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", "tmpfs", disk], check=True)
    with redirect_stderr(io.StringIO()) as errors:
        code = main([*flags, "--output_dir", str(disk / "out")])
    weights = disk / "out" / "model.safetensors"
    results.append({
        "code": code,
        "errors": [line for line in errors.getvalue().splitlines() if line.startswith("train_model:")],
        "left": sorted(path.relative_to(disk).as_posix() for path in disk.glob("*")),
        "checkpoints": sorted(path.name for path in disk.glob("out.checkpoint/*") if path.is_dir()),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else None,
    })
    shutil.rmtree(disk / "out", ignore_errors=True)
Path(sys.argv[3]).write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and rows, and an empty folder to mount on."""
    folder = write_inputs(tmp_path_factory.mktemp("inputs"), train=80, test=20)
    (folder / "disk").mkdir()
    return folder


@pytest.fixture(scope="module")
def namespace(inputs: Path) -> list[str]:
    """The command that runs another one where it may mount."""
    return mount_namespace(inputs / "disk")


def run(namespace: list[str], inputs: Path, *runs: tuple[int, list[str]]) -> list[dict[str, Any]]:
    """Runs the program again and again on one disk, of so many kilobytes; returns what each run left."""
    requested = json.dumps([(kilobytes, [*ARGUMENTS, *flags]) for kilobytes, flags in runs])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    answer = inputs / "answer.json"
    done = subprocess.run(
        [*namespace, sys.executable, "-c", _INSIDE, inputs / "disk", requested, answer],
        env=environment | {"BUILD_WORKING_DIRECTORY": str(inputs), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(answer.read_text())
    return results


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on_once_there_is_room(
    namespace: list[str], inputs: Path
) -> None:
    always = ["--checkpoint_seconds", "0"]
    # A checkpoint takes 72 KB, the model 80: too little for the first checkpoint; for one beside it, twice, so that the
    # second run goes on from the first one's; for the model beside a checkpoint.
    tight: tuple[tuple[int, list[str]], ...] = ((40, always), (100, always), (130, always), (140, []))
    whole, *results = run(namespace, inputs, (65536, []), *tight, (65536, []))
    assert (whole["code"], whole["left"]) == (0, ["out"])
    sentence = (
        "train_model: the disk is full: free some space, and rerun the command to resume from the last checkpoint"
    )
    for full in results[:-1]:
        assert (full["code"], full["sha256"]) == (1, None)
        assert [line.startswith(sentence) for line in full["errors"]] == [True], full["errors"]
        assert full["left"] == ["out.checkpoint"], "no staging folder and no lock may stay"
    assert [full["checkpoints"] for full in results[:-1]] == [[], *3 * [["checkpoint-1"]]], "the earlier one stays"
    assert (results[-1]["code"], results[-1]["left"], results[-1]["sha256"]) == (0, ["out"], whole["sha256"])
