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
from src.training.data.parts import Task
from src.training.engine.checkpoints import Checkpoints
from src.training.engine.data_parallel import TEST, TRAIN, VALIDATION, DataParallel
from src.training.engine.settings import TrainingSettings
from src.training.engine.trainer import Trainer
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.problem import Problem
from src.training.model.base_model import BaseModel, build_model
from src.training.problems.classification.metrics import ClassMetrics
from src.training.problems.classification.problem import Classification

_LOOPS = {loop.name: loop for loop in (TUTORIAL, TRANSFORMERS_BEST, TUTORIAL_UNPADDED)}
# The fastest way to the tutorial's accuracy, as in recipes/sst2_bert_tiny_fast.yaml.
_FAST: dict[str, Any] = {"per_device_train_batch_size": 64, "learning_rate": 5e-4, "num_train_epochs": 1}


def _discard_event(event: dict[str, Any]) -> None:
    """Stands in for the event log."""
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

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        task: Task,
        problem: Problem,
        base: BaseModel,
        max_seq_length: int,
        threads: int,
        scratch: Path,
        stop: StopSignal,
    ) -> None:
        """Loads the model and encodes the rows.

        Args:
            settings: how the model is trained.
            task: the rows.
            problem: that their labels pose.
            base: the model to start from.
            max_seq_length: tokens a text is cut to.
            threads: of each loop.
            scratch: for checkpoints and saved models.
            stop: ends our loop early.

        Raises:
            RequestError: the model cannot be loaded, or the rows have no classes.
        """
        self.settings, self.task, self.threads = settings, task, threads
        self.scratch, self.stop = scratch, stop
        self._max_seq_length = max_seq_length
        if not isinstance(problem, Classification):
            raise RequestError(
                "the benchmark compares classifiers of one class a row, which these labels are not: name other rows"
            )
        self.problem = problem
        self.model, self.tokenizer = build_model(
            base,
            output_names=problem.output_names,
            problem_type=problem.config_problem_type,
            seed=settings.seed,
            max_seq_length=max_seq_length,
        )
        self.encoded = self._encode(self.task.train)

    def _encode(self, rows: Any) -> Any:
        return encode(rows, tokenizer=self.tokenizer, max_seq_length=self._max_seq_length)

    def tokens_a_row(self) -> float:
        """Mean tokens of a train row, padding aside."""
        return round(float(self.encoded.lengths.mean()), 2)

    def padding_shares(self) -> dict[str, float]:
        """Share of the positions of an epoch that are padding, for the tutorial's loop and ours."""
        lengths, size = self.encoded.lengths, self.settings.per_device_train_batch_size
        ours = sum(
            len(rows) * int(lengths[rows].max())
            for rows in epoch_batches(lengths, batch_size=size, seed=self.settings.seed, epoch=0)
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
        steps_an_epoch = math.ceil(len(self.encoded) / self.settings.per_device_train_batch_size)
        few = dataclasses.replace(self.settings, num_train_epochs=(steps - 0.5) / steps_an_epoch)
        few_rows = self._encode(self.task.validation.select([0]))
        with self._data_parallel(few, validation=few_rows, test=few_rows) as data_parallel:
            self._ours(data_parallel, stop=clock).fit()
        starts = clock.checks[skip:steps]
        return [after - before for before, after in itertools.pairwise(starts)]

    def _reference(self, loop: ReferenceLoop, *, scored: Any, **arguments: Any) -> Any:
        torch.set_num_threads(self.threads)
        train = EncodedDataset(self.task.train, tokenizer=self.tokenizer, loop=loop)
        return build_trainer(
            loop, model=copy.deepcopy(self.model), tokenizer=self.tokenizer, train=train, scored=scored,
            folder=self.scratch / loop.name, per_device_train_batch_size=self.settings.per_device_train_batch_size,
            per_device_eval_batch_size=self.settings.per_device_train_batch_size,
            learning_rate=self.settings.learning_rate, num_train_epochs=self.settings.num_train_epochs,
            seed=self.settings.seed, **arguments,
        )  # fmt: skip

    def _data_parallel(self, settings: TrainingSettings, *, validation: Any, test: Any) -> DataParallel:
        torch.set_num_threads(1)
        return DataParallel(
            copy.deepcopy(self.model),
            settings,
            splits={TRAIN: self.encoded, VALIDATION: validation, TEST: test},
            problem=self.problem,
            threads=self.threads,
        )

    def _ours(self, data_parallel: DataParallel, *, stop: StopSignal) -> Trainer:
        return Trainer(
            data_parallel=data_parallel, scored_split=self.task.validation.split,
            selects_epoch=self.task.selects_epoch, stop=stop, record=_discard_event,
            checkpoints=Checkpoints(self.scratch / "checkpoints", fingerprint="benchmark"),
        )  # fmt: skip

    def whole_job(self, name: str) -> dict[str, float]:
        """Does everything from texts to a saved model; returns seconds and accuracy on the final rows."""
        started = time.perf_counter()
        if name in _LOOPS:
            accuracy = self._whole_reference(_LOOPS[name])
        else:
            accuracy = self._whole_ours(
                self.settings if name == "ours" else dataclasses.replace(self.settings, **_FAST)
            )
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
        # By the labels that predict returns: group_by_length reorders the rows of a prediction, too.
        scored = trainer.predict(test)
        return float(np.mean(scored.predictions.argmax(axis=1) == scored.label_ids))

    def _whole_ours(self, settings: TrainingSettings) -> float:
        self.encoded = self._encode(self.task.train)
        validation, test = self._encode(self.task.validation), self._encode(self.task.test)
        with self._data_parallel(settings, validation=validation, test=test) as data_parallel:
            self._score(data_parallel)
            self._ours(data_parallel, stop=self.stop).fit()
            metrics = self._score(data_parallel)
            data_parallel.close()
            data_parallel.model.save_pretrained(self.scratch / "ours")
        return metrics.accuracy

    def _score(self, data_parallel: DataParallel) -> ClassMetrics:
        metrics = data_parallel.score(TEST, name=self.task.test.split).metrics
        assert isinstance(metrics, ClassMetrics)
        return metrics
