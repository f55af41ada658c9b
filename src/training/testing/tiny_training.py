"""A small run by several processes: rows, settings, and what it leaves; for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.training.data.batches import EncodedExamples
from src.training.engine.data_parallel import TRAIN, VALIDATION, DataParallel
from src.training.engine.settings import TrainingSettings
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.problem import Problem
from src.training.problems.classification.problem import Classification
from src.training.testing.tiny_model import VOCABULARY

CLASSES = Classification(class_names=("bad", "good"))
SETTINGS = TrainingSettings(
    per_device_train_batch_size=12,
    per_device_eval_batch_size=4,
    num_train_epochs=2,
    learning_rate=1e-2,
    lr_scheduler_type="linear",
    warmup_ratio=0.0,
    weight_decay=0.01,
    max_grad_norm=0.5,
    seed=42,
)


def rows(number: int, *, seed: int, pairs: bool = False, values: bool = False, noise: float = 0.0) -> EncodedExamples:
    """Returns token rows whose label is whether `good` is in them.

    Args:
        number: of rows.
        seed: decides the other tokens.
        pairs: with token types.
        values: labels as float32.
        noise: share of wrong labels.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(number) % 2
    words = [[VOCABULARY.index(word) for word in CLASSES.class_names][label] for label in labels]
    texts = [[2, *random.integers(10, 40, random.integers(1, 8)), word, 3] for word in words]
    ids = np.concatenate(texts).astype(np.int32)
    labels = np.where(random.random(number) < noise, 1 - labels, labels)
    return EncodedExamples(
        ids=ids,
        starts=np.cumsum([0, *map(len, texts)]),
        labels=labels.astype(np.float32 if values else np.int64),
        pad_id=0,
        types=(ids % 2).astype(np.int8) if pairs else None,
    )


def build_data_parallel(
    base: Path,
    *,
    threads: int,
    dropout: float = 0.0,
    head_dropout: float | None = None,
    train: EncodedExamples | None = None,
    scored: EncodedExamples | None = None,
    problem: Problem = CLASSES,
    **fields: Any,
) -> DataParallel:
    """Loads a model and forks.

    Args:
        base: folder of build_tiny_model.
        threads: cores to use.
        dropout: probability; each number of processes has other masks.
        head_dropout: the head's, where it is not the same.
        train: rows to train on (default: 37).
        scored: rows to score (default: 23).
        problem: what is trained for.
        **fields: of the settings, where they are not those of SETTINGS.
    """
    from transformers import AutoModelForSequenceClassification

    settings: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    settings["classifier_dropout"] = head_dropout
    settings["num_labels"] = len(problem.output_names)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, ignore_mismatched_sizes=True, **settings)
    splits = {TRAIN: train or rows(37, seed=1), VALIDATION: scored or rows(23, seed=2)}
    return DataParallel(model, dataclasses.replace(SETTINGS, **fields), splits=splits, problem=problem, threads=threads)


class StopAt(StopSignal):
    """Requests a stop after so many checks."""

    def __init__(self, checks: int) -> None:
        super().__init__(deadline_seconds=None)
        self.left = checks

    @property
    def status(self) -> str | None:
        """`interrupted` from that time on."""
        self.left -= 1
        return "interrupted" if self.left < 0 else None


def train(data_parallel: DataParallel, *, first: int = 0, last: int | None = None) -> list[float]:
    """Takes steps from `first` to before `last`; returns their losses. All weights are up to date afterwards."""
    last = data_parallel.steps if last is None else last
    losses = [data_parallel.step(step)[0] for step in range(first, last)]
    data_parallel.catch_up_all(done=last)
    return losses


def weights(data_parallel: DataParallel) -> dict[str, torch.Tensor]:
    """Returns a copy of the model's weights."""
    return {name: value.detach().clone() for name, value in data_parallel.model.state_dict().items()}


def bits(weights: dict[str, torch.Tensor]) -> bytes:
    """Returns weights as they lie in memory, to compare."""
    return b"".join(value.numpy().tobytes() for value in weights.values())
