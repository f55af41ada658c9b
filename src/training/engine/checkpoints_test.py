"""Checkpoints: how many stay, and that a damaged one is detected instead of resumed from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.cli.errors import RequestError
from src.training.engine import checkpoint_seal
from src.training.engine.checkpoint_seal import DamagedError, read_seal
from src.training.engine.checkpoints import Checkpoints
from src.training.optimizer.optimizer import Optimizer
from src.training.optimizer.schedule import Schedule


class Small(torch.nn.Module):
    """As much of a model as an optimizer asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 2)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def get_output_embeddings(self) -> None:
        return None


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 5, 10 and 15."""
    folder = tmp_path_factory.mktemp("saved")
    save(Checkpoints(folder, fingerprint="a", keep=3), 5, 10, 15)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def save(checkpoints: Checkpoints, *steps: int) -> None:
    torch.manual_seed(0)
    model = Small()
    schedule = Schedule(kind="linear", peak=5e-5, warmup_ratio=0.0, steps=20)
    optimizer = Optimizer(model, schedule, weight_decay=0.01, max_grad_norm=1.0)
    for step in steps:
        checkpoints.save(
            step, weights={"model": model.state_dict()}, optimizer=optimizer, state={"step": step, "best_loss": 0.5}
        )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, flip_a_bit, empty, remove]
FILES = ["model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.mark.parametrize(("keep", "left"), [(1, [20]), (2, [15, 20]), (4, [5, 10, 15, 20]), (9, [5, 10, 15, 20])])
def test_the_newest_ones_stay(folder: Path, keep: int, left: list[int]) -> None:
    save(Checkpoints(folder, fingerprint="a", keep=keep), 20)
    assert set(names(folder)) == {f"checkpoint-{step}" for step in left}


def test_the_newest_is_by_steps_not_by_name(folder: Path) -> None:
    latest = Checkpoints(folder, fingerprint="a").latest()
    assert latest is not None
    assert latest.name == "checkpoint-15"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(
    folder: Path, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder / "checkpoint-15" / file)
    checkpoints = Checkpoints(folder, fingerprint="a")
    assert checkpoints.latest() == folder / "checkpoint-10"
    [warning] = caplog.messages
    assert warning.startswith(f"{folder / 'checkpoint-15'} is damaged: {file} ")
    assert "resuming from checkpoint-10" in warning


@pytest.mark.parametrize(
    "content",
    [None, "{}", "[]", "[" * 100_000, '{"a":' * 100_000, '{"format": 6}', '{"files": {}, "sha256": 5}'],
    ids=["FIFO", "{}", "[]", "deep list", "deep object", "format alone", "no seal"],
)
def test_a_state_that_nobody_sealed_is_damage(
    folder: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    state = folder / "checkpoint-15" / "state.json"
    state.unlink()
    if content is None:
        os.mkfifo(state)
    else:
        state.write_text(content)
    assert Checkpoints(folder, fingerprint="a").latest() == folder / "checkpoint-10"
    assert "resuming from checkpoint-10" in caplog.messages[0]


def test_a_state_that_somebody_else_sealed_is_damage(folder: Path) -> None:
    newest = folder / "checkpoint-15"
    checkpoint_seal.write_seal(newest, {})
    assert Checkpoints(folder, fingerprint="a").latest() == folder / "checkpoint-10"


def test_weights_that_the_state_does_not_list_are_not_loaded(folder: Path) -> None:
    newest = folder / "checkpoint-15"
    shutil.copy(newest / "model.safetensors", newest / "best.safetensors")
    checkpoints = Checkpoints(folder, fingerprint="a")
    assert checkpoints.load(checkpoints.latest() or newest)[0].keys() == {"model"}


def test_no_byte_of_the_state_can_turn_unnoticed(folder: Path) -> None:
    path = folder / "checkpoint-15" / "state.json"
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamagedError):
            read_seal(path.parent)
    path.write_bytes(content)
    assert read_seal(path.parent)["step"] == 15


def test_with_no_whole_one_left_the_run_is_refused_with_the_way_out(folder: Path) -> None:
    for step in (5, 10, 15):
        flip_a_bit(folder / f"checkpoint-{step}" / "optimizer.safetensors")
    with pytest.raises(RequestError, match=r"checkpoint-15 is damaged: .*: start over with --resume_from_checkpoint"):
        Checkpoints(folder, fingerprint="a").latest()
    assert names(folder) == ["checkpoint-10", "checkpoint-15", "checkpoint-5"], "nothing is lost by a refusal"


@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_that_went_back_replaces_the_damaged_one(folder: Path, keep: int) -> None:
    truncate(folder / "checkpoint-15" / "model.safetensors")
    checkpoints = Checkpoints(folder, fingerprint="a", keep=keep)
    save(checkpoints, 12)
    assert names(folder) == ["checkpoint-10", "checkpoint-12"][-keep:]
    assert checkpoints.latest() == folder / "checkpoint-12"


def test_a_damaged_one_of_the_same_step_is_replaced(folder: Path) -> None:
    truncate(folder / "checkpoint-15" / "model.safetensors")
    checkpoints = Checkpoints(folder, fingerprint="a")
    save(checkpoints, 15)
    assert checkpoints.latest() == folder / "checkpoint-15"


def test_another_recipe_is_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match="of another recipe"):
        Checkpoints(folder, fingerprint="b").latest()


# 5: the optimizer's square roots were not exact; resuming would end in bits of neither version.
@pytest.mark.parametrize("version", [None, 5, 99])
def test_another_version_of_the_format_is_refused(
    folder: Path, version: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = folder / "checkpoint-15"
    if version is None:
        # As the first format was: without format and hashes.
        (newest / "state.json").write_text(json.dumps({"step": 15, "fingerprint": "a"}))
    else:
        monkeypatch.setattr(checkpoint_seal, "FORMAT", version)
        save(Checkpoints(folder, fingerprint="a", keep=3), 16)
        monkeypatch.undo()
    with pytest.raises(RequestError, match=r"another version of the trainer .*: start over with --resume_from"):
        Checkpoints(folder, fingerprint="a").latest()


def test_other_folders_are_no_checkpoints_and_what_a_kill_left_is_dropped(folder: Path) -> None:
    for name in ("checkpoint-old", "checkpoint-", ".partial-17"):
        (folder / name).mkdir()
    checkpoints = Checkpoints(folder, fingerprint="a")
    assert checkpoints.latest() == folder / "checkpoint-15"
    checkpoints.drop_partial()
    assert ".partial-17" not in names(folder)
    assert "checkpoint-old" in names(folder)
