"""A model trained by several processes, each with a share of every batch and of the weights."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from src.training.data.batches import Batch, EncodedExamples, epoch_batches, scoring_batches
from src.training.engine.process_group import ProcessGroup
from src.training.engine.settings import TrainingSettings
from src.training.environment.cores import plan_processes
from src.training.evaluation.problem import Problem, Scored
from src.training.evaluation.scoring import score_batches
from src.training.fused.dropout import DropoutMasks
from src.training.fused.registry import FusedModel, fuse
from src.training.optimizer.optimizer import Optimizer
from src.training.optimizer.schedule import Schedule
from src.training.optimizer.shared_memory import shared_zeros

TRAIN, VALIDATION, TEST = "train", "validation", "test"

# A stop is noticed between calls.
_BATCHES_PER_CALL = 8


class DataParallel:
    """The model, its optimizer and the processes that train it.

    Processes instead of threads: bert-tiny's matrices are too small to be divided (with 16 rows a step two threads
    take as long as one), its batches are not. The weights exist once, in shared memory.
    """

    def __init__(
        self,
        model: Any,
        settings: TrainingSettings,
        *,
        splits: Mapping[str, EncodedExamples],
        problem: Problem,
        threads: int,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Forks. Until then the calling process should have had one thread: libgomp's do not survive a fork.

        Args:
            model: a classifier of transformers; its weights move to shared memory until `close`.
            settings: how it is trained.
            splits: encoded rows; those named TRAIN are trained on, any can be scored.
            problem: decides the loss and the scores.
            threads: cores to use.
            is_stopping: whether the run has to end: nothing may then hold it up.
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
            is_stopping=is_stopping,
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
        """Brings all weights up to date, after so many steps: before anything but a step reads them."""
        self._group.call("catch_up_all", done)

    def score(self, split: str, *, name: str, check: Callable[[], None] = lambda: None) -> Scored:
        """Scores the model on rows.

        Args:
            split: key of the rows.
            name: of the rows, in the scores.
            check: called every few batches; may raise to stop.
        """
        rows = self.splits[split]
        batches = math.ceil(len(rows) / self._eval_batch_size)
        for first in range(0, batches, _BATCHES_PER_CALL * self.processes):
            check()
            self._group.call("score", split, first, first + _BATCHES_PER_CALL * self.processes)
        return self.problem.score(self._outputs[split].numpy(), rows.labels, split=name)

    def size(self, step: int) -> tuple[int, int]:
        """Returns rows and tokens of a step's batch, padding aside."""
        rows = self._group.own.rows(step)
        return len(rows), int(self.splits[TRAIN].lengths[rows].sum())

    def load_state_dict(self, weights: Mapping[str, torch.Tensor], optimizer: dict[str, Any]) -> None:
        """Restores weights and an optimizer's state."""
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        self._prepared = -1

    def close(self) -> None:
        """Ends the processes and gives the model its own copy of the weights. A second call does nothing."""
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


class Rank:
    """One process's share of training: of the rows of every batch, and of the weights to update.

    Its methods are called in all processes at once, in the order of a step.
    """

    def __init__(
        self,
        rank: int,
        *,
        of: int,
        threads: int,
        model: Any,
        fused: FusedModel | None,
        optimizer: Optimizer,
        problem: Problem,
        train_batch_size: int,
        eval_batch_size: int,
        seed: int,
        splits: Mapping[str, EncodedExamples],
        outputs: Mapping[str, torch.Tensor],
    ) -> None:
        """In the process that it works in, once forked.

        Args:
            rank: of this process.
            of: number of processes.
            threads: of this process.
            model: a classifier of transformers.
            fused: its faster forward pass, if there is one.
            optimizer: over the model's weights, in shared memory.
            problem: decides the loss.
            train_batch_size: rows of a step, in all processes.
            eval_batch_size: rows scored at once by each process.
            seed: decides the order of rows and dropout.
            splits: encoded rows; those named TRAIN are trained on.
            outputs: shared, float32 [rows, outputs] by split: where `score` writes the logits.
        """
        torch.set_num_threads(threads)
        optimizer.take_rank(rank)
        self._rank, self._of = rank, of
        self._model, self._fused, self._optimizer = model, fused, optimizer
        self._problem, self._seed = problem, seed
        self._train_batch_size, self._eval_batch_size = train_batch_size, eval_batch_size
        self._splits, self._outputs = splits, outputs
        self._device = next(model.parameters()).device
        self._epoch, self._batches = -1, [np.empty(0, np.int64)]
        # Batches by split: sorting the rows once is enough.
        self._scoring: dict[str, list[np.ndarray]] = {}
        self._token_ids = np.empty(0, np.int64)

    def rows(self, step: int) -> np.ndarray:
        """Returns the rows of a step's whole batch: a function of the seed and the step."""
        train, size = self._splits[TRAIN], self._train_batch_size
        epoch, at = divmod(step, -(-len(train) // size))
        if epoch != self._epoch:
            self._batches = epoch_batches(train.lengths, batch_size=size, seed=self._seed, epoch=epoch)
            self._epoch = epoch
        return self._batches[at]

    def prepare(self, step: int) -> None:
        """Brings this process's share of the embedding rows that a step reads up to date."""
        train = self._splits[TRAIN]
        self._token_ids = np.unique(np.append(train.tokens(self.rows(step)), train.pad_id).astype(np.int64))
        self._optimizer.catch_up(self._token_ids, step=step)

    def gradients(self, step: int) -> float:
        """Runs the forward and backward pass of this process's rows; returns their part of the batch's loss."""
        if not self._model.training:
            self._model.train()
        rows, train = self.rows(step), self._splits[TRAIN]
        mass = self._problem.mass(torch.from_numpy(train.labels[rows]))
        # Rows are ordered by length: taking every n-th gives each process as many tokens as the others.
        own = rows[self._rank :: self._of]
        # The last batch of an epoch may have fewer rows than processes.
        loss, gradient = self._backward(train.batch(own), step=step, mass=mass) if len(own) else (0.0, None)
        self._optimizer.publish_gradients(self._token_ids, gradient)
        return loss

    def _backward(self, batch: Batch, *, step: int, mass: float) -> tuple[float, torch.Tensor | None]:
        labels = batch.pop("labels").to(self._device)
        # Dropout is a function of seed, step and process, so a resumed run needs no saved random state.
        _seed_dropout(self._seed, step, self._rank)
        embedding_rows = None
        if self._fused is not None:
            if self._optimizer.embedding is not None:
                batch["input_ids"] = torch.from_numpy(np.searchsorted(self._token_ids, batch["input_ids"].numpy()))
                embedding_rows = self._optimizer.rows(self._token_ids)
            masks = DropoutMasks(seed=self._seed, step=step, process=self._rank)
            logits = self._fused(batch, embedding_rows=embedding_rows, masks=masks)
        else:
            logits = self._model(**self._moved(batch)).logits
        loss = self._problem.loss_sum(logits, labels) / mass
        loss.backward()
        return float(loss.detach()), None if embedding_rows is None else embedding_rows.grad

    def reduce_gradients(self) -> None:
        """Sums all processes' gradients of this process's share of the weights."""
        self._optimizer.reduce_gradients(self._token_ids)

    def update(self, step: int, following: int | None) -> float:
        """Updates this process's share of the weights; returns the learning rate.

        Args:
            step: the step that is taken.
            following: the step to prepare for, if any.
        """
        rate = self._optimizer.step(step)
        if following is not None:
            self.prepare(following)
        return rate

    def catch_up_all(self, done: int) -> None:
        """Brings this process's share of all embedding rows up to date, after so many steps."""
        self._optimizer.catch_up_all(done=done)

    def score(self, split: str, first: int, last: int) -> None:
        """Writes the logits of this process's share of a split's batches from `first` to before `last`."""
        self._model.eval()
        rows, output = self._splits[split], self._outputs[split]
        if split not in self._scoring:
            self._scoring[split] = list(scoring_batches(rows.lengths, batch_size=self._eval_batch_size))
        own = self._scoring[split][first:last][self._rank :: self._of]
        for chosen, logits in score_batches(self._forward, rows, own):
            output[torch.from_numpy(chosen)] = logits

    def _forward(self, batch: Batch) -> torch.Tensor:
        """Returns the logits of a batch."""
        if self._fused is not None:
            return self._fused(batch)
        logits: torch.Tensor = self._model(**self._moved(batch)).logits
        return logits

    def _moved(self, batch: Batch) -> Batch:
        return {name: values.to(self._device) for name, values in batch.items()}


def _seed_dropout(*numbers: int) -> None:
    """Sets the state that torch's own dropout draws from. torch.manual_seed asks every back end, for 0.4 ms."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
