"""A model in training, in as many processes as pay."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from src.training.data.batches import EncodedExamples
from src.training.engine.process_group import ProcessGroup
from src.training.engine.rank import Rank
from src.training.engine.settings import TrainingSettings
from src.training.environment.cores import plan_processes
from src.training.evaluation.problem import Problem, Scored
from src.training.fused.forward import fuse
from src.training.optimizer.optimizer import Optimizer
from src.training.optimizer.schedule import Schedule
from src.training.optimizer.shared_memory import shared_zeros

TRAIN, VALIDATION, TEST = "train", "validation", "test"

# A stop is noticed between calls.
_BATCHES_A_CALL = 8


class DataParallel:
    """The model, its optimizer and the processes that train it.

    Processes instead of threads: bert-tiny's matrices are too small to be divided (with 16 rows a step two threads
    take as long as one), its batches are not. The weights are there once, in shared memory.
    """

    def __init__(
        self,
        model: Any,
        settings: TrainingSettings,
        *,
        splits: Mapping[str, EncodedExamples],
        problem: Problem,
        threads: int,
    ) -> None:
        """Forks. Until then the calling process should have had one thread: libgomp's do not survive a fork.

        Args:
            model: a classifier of transformers; its weights move to shared memory until `close`.
            settings: how it is trained.
            splits: encoded rows; those named TRAIN are trained on, any can be scored.
            problem: decides the loss and the scores.
            threads: cores to use.
        """
        self.model, self.problem, self.splits = model, problem, splits
        self._eval_batch_size = settings.per_device_eval_batch_size
        train = splits[TRAIN]
        self.steps_an_epoch = math.ceil(len(train) / settings.per_device_train_batch_size)
        self.steps = math.ceil(settings.num_train_epochs * self.steps_an_epoch)
        on_cpu = next(model.parameters()).device.type == "cpu"
        self.processes, threads_each = plan_processes(
            threads if on_cpu else 1,
            batch_size=settings.per_device_train_batch_size,
            weights=sum(weight.numel() for weight in model.parameters()),
        )
        self.optimizer = Optimizer(
            model,
            Schedule(
                kind=settings.lr_scheduler_type,
                peak=settings.learning_rate,
                warmup_ratio=settings.warmup_ratio,
                steps=self.steps,
            ),
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            processes=self.processes,
            # And the padding.
            max_token_ids=settings.per_device_train_batch_size * int(train.lengths.max(initial=0)) + 1,
        )
        self._outputs = {name: shared_zeros(len(rows), model.config.num_labels) for name, rows in splits.items()}
        # With more threads a product is MKL's, which knows how to divide it.
        fused = fuse(model) if threads_each == 1 else None
        # A full garbage collection walks over all that transformers has loaded: 50 ms, every hundred steps or so.
        gc.freeze()
        self._blas = ThreadpoolController().select(internal_api="openblas").limit(limits=1)
        self._group = ProcessGroup(
            lambda rank: Rank(
                rank, of=self.processes, threads=threads_each, model=model, fused=fused, optimizer=self.optimizer,
                problem=problem, train_batch_size=settings.per_device_train_batch_size,
                eval_batch_size=settings.per_device_eval_batch_size, seed=settings.seed,
                splits=splits, outputs=self._outputs,
            ),
            count=self.processes,
        )  # fmt: skip
        self._prepared = -1

    def step(self, step: int) -> tuple[float, float]:
        """Takes a step, from 0; returns the batch's loss and the learning rate."""
        if self._prepared != step:
            self._group.call("prepare", step)
        loss = sum(self._group.call("gradients", step))
        self._group.call("reduce_gradients")
        following = step + 1 if step + 1 < self.steps else None
        rate = self._group.call("update", step, following)[0]
        self._prepared = -1 if following is None else following
        return loss, rate

    def catch_up_all(self, *, done: int) -> None:
        """Brings all weights up to now, after so many steps: before they are scored, or anybody else's."""
        self._group.call("catch_up_all", done)

    def score(self, split: str, *, name: str, check: Callable[[], None] = lambda: None) -> Scored:
        """Scores the model on rows.

        Args:
            split: which ones.
            name: what the scores call them.
            check: called now and then; may raise to end it.
        """
        rows = self.splits[split]
        batches = math.ceil(len(rows) / self._eval_batch_size)
        for first in range(0, batches, _BATCHES_A_CALL * self.processes):
            check()
            self._group.call("score", split, first, first + _BATCHES_A_CALL * self.processes)
        return self.problem.score(self._outputs[split].numpy(), rows.labels, split=name)

    def size(self, step: int) -> tuple[int, int]:
        """Returns rows and tokens of a step's batch, padding aside."""
        rows = self._group.own.rows(step)
        return len(rows), int(self.splits[TRAIN].lengths[rows].sum())

    def load_state_dict(self, weights: Mapping[str, torch.Tensor], optimizer: dict[str, Any]) -> None:
        """Goes back to weights and to an optimizer's state."""
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        self._prepared = -1

    def close(self) -> None:
        """Ends the processes and gives the model weights of its own. Once: a second call does nothing."""
        if self._group.is_closed:
            return
        self._group.close()
        gc.unfreeze()
        self._blas.restore_original_limits()
        self.optimizer.release()

    def __enter__(self) -> DataParallel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
