"""The loop on values: which epoch it keeps, and that a resumed run is the same run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.cli.errors import StopRequested
from src.training.data.batches import EncodedExamples
from src.training.engine.checkpoints import Checkpoints
from src.training.engine.data_parallel import TRAIN, VALIDATION, DataParallel
from src.training.engine.trainer import Trainer
from src.training.environment.stop_signal import StopSignal
from src.training.problems.regression.problem import Regression
from src.training.testing.tiny_model import VOCABULARY, build_tiny_model
from src.training.testing.tiny_training import SETTINGS, StopAt

TRAINING = dataclasses.replace(
    SETTINGS, per_device_train_batch_size=8, num_train_epochs=4, learning_rate=2e-2, max_grad_norm=1.0
)
PROBLEM = Regression(label_name="score")


def rows(number: int, *, seed: int, good: float) -> EncodedExamples:
    """Token rows whose value is `good`, or as much below 0, by a word that stands in them; and noise."""
    random = np.random.default_rng(seed)
    words = [VOCABULARY.index(word) for word in ("bad", "good")]
    texts = [[2, *random.integers(10, 40, random.integers(1, 8)), words[row % 2], 3] for row in range(number)]
    values = good * (2.0 * (np.arange(number) % 2) - 1) + 0.1 * random.normal(size=number)
    return EncodedExamples(
        ids=np.concatenate(texts).astype(np.int32),
        starts=np.cumsum([0, *map(len, texts)]),
        labels=values.astype(np.float32),
        pad_id=0,
    )


OPEN: list[DataParallel] = []


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def build_trainer(folder: Path, events: list[dict[str, Any]], *, stop: StopSignal | None = None) -> Trainer:
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    model = folder / "model"
    if not model.exists():
        build_tiny_model(model, head=1)
    data_parallel = DataParallel(
        AutoModelForSequenceClassification.from_pretrained(model),
        TRAINING,
        # What is learnt is the opposite of what is scored: every epoch makes it worse.
        splits={TRAIN: rows(40, seed=1, good=1.0), VALIDATION: rows(20, seed=2, good=-1.0)},
        problem=PROBLEM,
        threads=2,
    )
    OPEN.append(data_parallel)
    return Trainer(
        data_parallel=data_parallel,
        scored_split="validation",
        selects_epoch=True,
        checkpoints=Checkpoints(folder / "checkpoints", fingerprint="a"),
        stop=stop or StopSignal(deadline_seconds=None),
        record=events.append,
    )


def weights(trainer: Trainer) -> bytes:
    return b"".join(value.numpy().tobytes() for value in trainer.model.state_dict().values())


def losses(events: list[dict[str, Any]]) -> list[float]:
    return [event["loss"] for event in events if event["event"] == "evaluation"]


def test_the_epoch_with_the_lowest_loss_is_kept(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    trainer = build_trainer(tmp_path, events)
    trainer.fit()
    scored = losses(events)
    assert trainer.state.best_epoch == scored.index(min(scored)) + 1
    assert trainer.state.best_merit == (-min(scored),)
    assert trainer.state.best_epoch < 4


@pytest.mark.parametrize("checks", [3, 7, 13])
def test_a_stopped_regression_goes_on_to_the_same_bits(tmp_path: Path, checks: int) -> None:
    whole_events: list[dict[str, Any]] = []
    whole = build_trainer(tmp_path, whole_events)
    whole.fit()
    events: list[dict[str, Any]] = []
    stopped = build_trainer(tmp_path, events, stop=StopAt(checks))
    with pytest.raises(StopRequested):
        stopped.fit()
    checkpoint = stopped.checkpoints.latest()
    assert checkpoint is not None
    resumed = build_trainer(tmp_path, events)
    resumed.resume(checkpoint)
    resumed.fit()
    assert weights(resumed) == weights(whole)
    assert losses(events) == losses(whole_events)
    assert resumed.state.best_epoch == whole.state.best_epoch
