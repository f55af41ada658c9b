"""The loops of the benchmark on one task: a sample of steps, or the whole job."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.cli.errors import RequestError
from src.training.benchmarks.reference_loops import (
    TRANSFORMERS_BEST,
    TUTORIAL,
    TUTORIAL_UNPADDED,
    EncodedDataset,
    ReferenceLoop,
    build_trainer,
    seconds_a_step,
)
from src.training.data.batches import encode, epoch_batches
from src.training.data.parts import load_task
from src.training.engine.checkpoints import Checkpoints
from src.training.engine.data_parallel import TEST, TRAIN, VALIDATION, DataParallel
from src.training.engine.trainer import Trainer
from src.training.environment.cores import resolve_threads
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.class_metrics import Metrics
from src.training.model.base_model import build_model, find_base_model
from src.training.model.objective import Objective
from src.training.recipes.recipe import Recipe

_LOOPS = {loop.name: loop for loop in (TUTORIAL, TRANSFORMERS_BEST, TUTORIAL_UNPADDED)}
# The fastest way to the tutorial's accuracy, as in recipes/sst2_bert_tiny_fast.yaml.
_FAST: dict[str, Any] = {"per_device_train_batch_size": 64, "learning_rate": 5e-4, "num_train_epochs": 1}


def _forget(event: dict[str, Any]) -> None:
    """Takes the place of an event log."""
    del event


class _StepClock(StopSignal):
    """Notes when the loop asks whether to stop: once before each step."""

    def __init__(self, *, deadline_seconds: float | None) -> None:
        super().__init__(deadline_seconds=deadline_seconds)
        self.checks: list[float] = []

    def check(self) -> None:
        self.checks.append(time.perf_counter())
        super().check()


class Contest:
    """Every loop starts from the same weights and reads the same rows."""

    names = (TUTORIAL.name, TRANSFORMERS_BEST.name, "ours")
    jobs = (*names, "ours_fast")

    def __init__(self, recipe: Recipe, *, data_folder: Path, scratch: Path, stop: StopSignal) -> None:
        """Loads rows and model.

        Args:
            recipe: the run.
            data_folder: what relative paths are relative to.
            scratch: for checkpoints and saved models.
            stop: ends our loop early.

        Raises:
            RequestError: a model or rows cannot be had, or the rows have no classes.
        """
        self.recipe, self.scratch, self.stop = recipe, scratch, stop
        self.task = load_task(recipe, folder=data_folder)
        if not self.task.class_names:
            raise RequestError("the benchmark compares classifiers, and these labels are numbers: name other rows")
        self.model, self.tokenizer = build_model(
            find_base_model(
                recipe.model_name_or_path,
                folder=data_folder,
                revision=recipe.model_revision,
                weights_sha256=recipe.model_weights_sha256,
            ),
            class_names=self.task.class_names,
            seed=recipe.seed,
            max_seq_length=recipe.max_seq_length,
        )
        self.encoded = self._encode(self.task.train)

    def _encode(self, rows: Any) -> Any:
        return encode(rows, tokenizer=self.tokenizer, max_seq_length=self.recipe.max_seq_length)

    def tokens_a_row(self) -> float:
        """Mean tokens of a train row, padding aside."""
        return round(float(self.encoded.lengths.mean()), 2)

    def padding_shares(self) -> dict[str, float]:
        """Share of the positions of an epoch that are padding, for the tutorial's loop and ours."""
        lengths, size = self.encoded.lengths, self.recipe.per_device_train_batch_size
        ours = sum(
            len(rows) * int(lengths[rows].max())
            for rows in epoch_batches(lengths, batch_size=size, seed=self.recipe.seed, epoch=0)
        )
        pad_to = TUTORIAL.pad_to or 0
        return {
            "tutorial": round(1 - float(np.mean(lengths)) / pad_to, 4),
            "ours": round(1 - int(lengths.sum()) / ours, 4),
        }

    def sample(self, name: str, *, steps: int, skip: int) -> list[float]:
        """Takes some steps from the start; returns the seconds of each, without the first `skip`."""
        if name in _LOOPS:
            trainer = self._reference(_LOOPS[name], scored=None, max_steps=steps)
            return seconds_a_step(trainer, skip=skip)
        clock = _StepClock(deadline_seconds=None)
        steps_an_epoch = math.ceil(len(self.encoded) / self.recipe.per_device_train_batch_size)
        few = dataclasses.replace(self.recipe, num_train_epochs=(steps - 0.5) / steps_an_epoch)
        few_rows = self._encode(self.task.validation.select([0]))
        with self._data_parallel(few, validation=few_rows, test=few_rows) as data_parallel:
            self._ours(data_parallel, stop=clock).fit()
        starts = clock.checks[skip:steps]
        return [after - before for before, after in itertools.pairwise(starts)]

    def _reference(self, loop: ReferenceLoop, *, scored: Any, **arguments: Any) -> Any:
        torch.set_num_threads(resolve_threads(self.recipe))
        train = EncodedDataset(self.task.train, tokenizer=self.tokenizer, loop=loop)
        return build_trainer(
            loop, model=copy.deepcopy(self.model), tokenizer=self.tokenizer, train=train, scored=scored,
            folder=self.scratch / loop.name, per_device_train_batch_size=self.recipe.per_device_train_batch_size,
            per_device_eval_batch_size=self.recipe.per_device_train_batch_size,
            learning_rate=self.recipe.learning_rate, num_train_epochs=self.recipe.num_train_epochs,
            seed=self.recipe.seed, **arguments,
        )  # fmt: skip

    def _data_parallel(self, recipe: Recipe, *, validation: Any, test: Any) -> DataParallel:
        torch.set_num_threads(1)
        return DataParallel(
            copy.deepcopy(self.model),
            recipe,
            splits={TRAIN: self.encoded, VALIDATION: validation, TEST: test},
            objective=Objective(kind=self.task.problem_type, class_weights=self.task.class_weights),
            threads=resolve_threads(recipe),
        )

    def _ours(self, data_parallel: DataParallel, *, stop: StopSignal) -> Trainer:
        return Trainer(
            data_parallel=data_parallel, recipe=data_parallel.recipe, scored_split=self.task.validation.split,
            class_names=self.task.class_names, selects_epoch=self.task.selects_epoch, stop=stop, record=_forget,
            checkpoints=Checkpoints(self.scratch / "checkpoints", fingerprint="benchmark"),
        )  # fmt: skip

    def whole_job(self, name: str) -> dict[str, float]:
        """Does everything from texts to a saved model; returns seconds and accuracy on the final rows."""
        started = time.perf_counter()
        if name in _LOOPS:
            accuracy = self._whole_reference(_LOOPS[name])
        else:
            accuracy = self._whole_ours(dataclasses.replace(self.recipe, **_FAST) if name != "ours" else self.recipe)
        return {"seconds": round(time.perf_counter() - started, 1), "accuracy": round(accuracy, 4)}

    def _whole_reference(self, loop: ReferenceLoop) -> float:
        validation, test = (
            EncodedDataset(rows, tokenizer=self.tokenizer, loop=loop) for rows in (self.task.validation, self.task.test)
        )
        trainer = self._reference(
            loop,
            scored=validation,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=self.task.selects_epoch,
        )
        trainer.predict(test)
        trainer.train()
        trainer.model.save_pretrained(self.scratch / loop.name / "model")
        # With the labels that come back: group_by_length reorders the rows of a prediction too.
        scored = trainer.predict(test)
        return float(np.mean(scored.predictions.argmax(axis=1) == scored.label_ids))

    def _whole_ours(self, recipe: Recipe) -> float:
        self.encoded = self._encode(self.task.train)
        validation, test = self._encode(self.task.validation), self._encode(self.task.test)
        with self._data_parallel(recipe, validation=validation, test=test) as data_parallel:
            self._score(data_parallel)
            self._ours(data_parallel, stop=self.stop).fit()
            metrics = self._score(data_parallel)
            data_parallel.close()
            data_parallel.model.save_pretrained(self.scratch / "ours")
        return metrics.accuracy

    def _score(self, data_parallel: DataParallel) -> Metrics:
        return data_parallel.score(TEST, name=self.task.test.split, class_names=self.task.class_names).class_metrics
