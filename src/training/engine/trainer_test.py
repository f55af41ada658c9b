"""The loop: what it learns, which epoch it keeps, and that a resumed run is the same run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.cli.errors import StopRequested
from src.training.engine.checkpoints import Checkpoints
from src.training.engine.data_parallel import TRAIN, VALIDATION, DataParallel
from src.training.engine.trainer import Trainer
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.scoring import evaluate
from src.training.testing.tiny_model import build_tiny_model
from src.training.testing.tiny_training import CLASSES, SETTINGS, StopAt, rows

TRAINING = dataclasses.replace(
    SETTINGS,
    per_device_train_batch_size=8,
    num_train_epochs=3.5,
    learning_rate=2e-2,
    warmup_ratio=0.1,
    max_grad_norm=1.0,
)
# 40 rows in batches of 8.
STEPS_AN_EPOCH, STEPS = 5, 18


OPEN: list[DataParallel] = []


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", head=2)


def build_trainer(base: Path, folder: Path, **changes: Any) -> Trainer:
    from transformers import AutoModelForSequenceClassification

    events: list[dict[str, Any]] = []
    data_parallel = DataParallel(
        AutoModelForSequenceClassification.from_pretrained(base),
        dataclasses.replace(TRAINING, **changes.pop("settings", {})),
        splits={TRAIN: changes.pop("train", rows(40, seed=1)), VALIDATION: rows(20, seed=2)},
        problem=CLASSES,
        threads=changes.pop("threads", 2),
    )
    OPEN.append(data_parallel)
    defaults: dict[str, Any] = {
        "data_parallel": data_parallel,
        "scored_split": "validation",
        "selects_epoch": True,
        "checkpoints": Checkpoints(folder, fingerprint="a"),
        "stop": StopSignal(deadline_seconds=None),
        "record": events.append,
    }
    trainer = Trainer(**{**defaults, **changes})
    trainer.events = events  # type: ignore[attr-defined]
    return trainer


def weights(trainer: Trainer) -> bytes:
    return b"".join(value.numpy().tobytes() for value in trainer.model.state_dict().values())


def scores(trainer: Trainer) -> list[tuple[float, float]]:
    events: list[dict[str, Any]] = trainer.events  # type: ignore[attr-defined]
    return [(event["accuracy"], -event["loss"]) for event in events if event["event"] == "evaluation"]


def test_an_epoch_and_a_part_of_one_are_trained_and_scored(base: Path, tmp_path: Path) -> None:
    trainer = build_trainer(base, tmp_path)
    trainer.fit()
    assert (trainer.steps_an_epoch, trainer.steps, trainer.state.step) == (STEPS_AN_EPOCH, STEPS, STEPS)
    assert trainer.state.examples == 3 * 40 + 3 * 8
    assert len(scores(trainer)) == trainer.state.epochs_scored == 4
    assert trainer.state.tokens > 3 * trainer.data_parallel.splits[TRAIN].lengths.sum()


def test_every_step_is_shown_with_its_loss(base: Path, tmp_path: Path) -> None:
    shown = []
    trainer = build_trainer(base, tmp_path)
    trainer.fit(lambda progress, loss: shown.append((progress.step, round(loss, 6))))
    assert shown == [(event["step"], event["loss"]) for event in trainer.events if event["event"] == "step"]  # type: ignore[attr-defined]


def test_scored_rows_have_a_class_and_its_probability(base: Path, tmp_path: Path) -> None:
    trainer = build_trainer(base, tmp_path)
    chosen = rows(20, seed=2)
    scored = trainer.data_parallel.score(VALIDATION, name="test")
    with torch.inference_mode():
        logits = torch.cat([trainer.model(**chosen.batch([row])).logits for row in range(20)])
    assert scored.predicted.tolist() == logits.argmax(dim=1).tolist()
    expected = logits.softmax(dim=1).max(dim=1).values.tolist()
    assert scored.confidence.tolist() == pytest.approx(expected, abs=1e-5)
    assert scored.metrics.as_json()["accuracy"] == np.mean(scored.predicted == chosen.labels)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_loop_learns(base: Path, tmp_path: Path, threads: int) -> None:
    trainer = build_trainer(base, tmp_path, settings={"num_train_epochs": 20}, threads=threads)
    trainer.fit()
    assert scores(trainer)[-1][0] >= 0.9
    assert not list(tmp_path.iterdir()), "a short run needs no checkpoint"


def test_the_first_loss_is_that_of_guessing(base: Path, tmp_path: Path) -> None:
    trainer = build_trainer(base, tmp_path)
    trainer.fit()
    assert trainer.events[0]["loss"] == pytest.approx(math.log(2), abs=0.1)  # type: ignore[attr-defined]


def test_scores_do_not_depend_on_the_batch_size(base: Path, tmp_path: Path) -> None:
    # The last batch of 8 is a smaller one, whose mean loss counts for less.
    trainer = build_trainer(base, tmp_path)
    trainer.fit()
    noisy = rows(20, seed=3, noise=0.3)
    eight, all_at_once = (
        evaluate(trainer.model, noisy, split="test", problem=CLASSES, batch_size=size).metrics.as_json()
        for size in (8, 20)
    )
    assert eight["loss"] == pytest.approx(all_at_once["loss"], rel=1e-5)
    assert eight["confusion_matrix"] == all_at_once["confusion_matrix"]


def test_the_best_epoch_is_kept(base: Path, tmp_path: Path) -> None:
    # Labels by chance: what is learnt of them makes the scores worse again.
    trainer = build_trainer(base, tmp_path, train=rows(40, seed=1, noise=0.5))
    trainer.fit()
    best = scores(trainer).index(max(scores(trainer))) + 1
    assert (trainer.state.best_epoch, best < 4) == (best, True)
    kept = weights(trainer)
    short = build_trainer(base, tmp_path, train=rows(40, seed=1, noise=0.5), stop=StopAt(best * (STEPS_AN_EPOCH + 1)))
    with pytest.raises(StopRequested):
        short.fit()
    assert (short.state.step, weights(short)) == (best * STEPS_AN_EPOCH, kept)


def test_the_last_epoch_is_kept_where_scores_may_not_choose(base: Path, tmp_path: Path) -> None:
    noisy = rows(40, seed=1, noise=0.5)
    chosen, last = (build_trainer(base, tmp_path, train=noisy, selects_epoch=selects) for selects in (True, False))
    chosen.fit()
    last.fit()
    assert weights(chosen) != weights(last)
    assert last.state.best_epoch == 0


# One question a step, and one a batch that is scored, of which an epoch has one: 6 an epoch.
@pytest.mark.parametrize("checks", [0, 1, 5, 6, 9, 17, 20, 21])
def test_a_run_stopped_anywhere_goes_on_to_the_same_bits(base: Path, tmp_path: Path, checks: int) -> None:
    noisy = rows(40, seed=1, noise=0.5)
    whole = build_trainer(base, tmp_path, train=noisy)
    whole.fit()
    stopped = build_trainer(base, tmp_path, train=noisy, stop=StopAt(checks))
    with pytest.raises(StopRequested):
        stopped.fit()
    checkpoint = stopped.checkpoints.latest()
    assert checkpoint is not None
    resumed = build_trainer(base, tmp_path, train=noisy)
    # Whatever random numbers were drawn in between do not matter.
    torch.rand(3)
    resumed.resume(checkpoint)
    resumed.fit()
    assert weights(resumed) == weights(whole)
    assert scores(stopped) + scores(resumed) == scores(whole)
    for name in ("step", "examples", "tokens", "epochs_scored", "best_epoch", "best_merit"):
        assert getattr(resumed.state, name) == getattr(whole.state, name)


def test_dropout_is_another_at_each_step_and_for_each_seed(base: Path, tmp_path: Path) -> None:
    frozen = {"per_device_train_batch_size": 40, "num_train_epochs": 2, "learning_rate": 1e-12, "weight_decay": 0.0}
    losses = []
    for seed in (1, 2):
        trainer = build_trainer(base, tmp_path, settings={**frozen, "seed": seed, "warmup_ratio": 0.0})
        trainer.fit()
        losses += [event["loss"] for event in trainer.events if event["event"] == "step"]  # type: ignore[attr-defined]
    assert len(set(losses)) == 4


def test_only_the_newest_checkpoint_stays_and_it_is_whole(base: Path, tmp_path: Path) -> None:
    trainer = build_trainer(base, tmp_path)
    trainer.save()
    trainer.fit()
    trainer.save()
    [left] = tmp_path.iterdir()
    assert left.name == f"checkpoint-{STEPS}"
    assert json.loads((left / "state.json").read_text())["fingerprint"] == "a"


def test_a_checkpoint_that_was_being_written_is_not_taken(base: Path, tmp_path: Path) -> None:
    trainer = build_trainer(base, tmp_path)
    trainer.save()
    (tmp_path / ".partial-1").mkdir()
    latest = trainer.checkpoints.latest()
    assert latest is not None
    assert latest.name == "checkpoint-0"
    assert Checkpoints(tmp_path / "nowhere", fingerprint="a").latest() is None
