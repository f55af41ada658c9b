"""A model trained by several processes, each with a share of every batch and of the weights."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from src.training.data.batches import EncodedRows, epoch_batches, scoring_batches
from src.training.engine.forward_pass import ClassifierPass, ForwardPass
from src.training.engine.process_group import ProcessGroup
from src.training.engine.settings import TrainingSettings
from src.training.environment.cores import MIN_ROWS_PER_PROCESS, plan_processes
from src.training.evaluation.problem import Problem, Scored
from src.training.evaluation.scoring import score_batches
from src.training.fused.dropout import DropoutMasks
from src.training.fused.registry import fuse
from src.training.inference.generator import Answer
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
        splits: Mapping[str, EncodedRows],
        problem: Problem,
        threads: int,
        forward_pass: ForwardPass | None = None,
        answer: Callable[[np.ndarray], list[Answer]] | None = None,
        min_rows_per_process: int = MIN_ROWS_PER_PROCESS,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Forks. Until then the calling process should have had one thread: libgomp's do not survive a fork.

        Args:
            model: a model of transformers; the weights that are trained move to shared memory until `close`.
            settings: how it is trained.
            splits: encoded rows; those named TRAIN are trained on, any can be scored.
            problem: decides the loss and the scores.
            threads: cores to use.
            forward_pass: computes the model's batches; None: as a classifier's are.
            answer: generates the answers to prompts, by their numbers, for `answers`.
            min_rows_per_process: with fewer rows of a step a process costs more than it saves.
            is_stopping: whether the run has to end: nothing may then hold it up.
        """
        self.model, self.problem, self.splits = model, problem, splits
        self._eval_batch_size = settings.per_device_eval_batch_size
        # Known from here on: an adapter that has been merged is no part of the model any more.
        self._trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._trains_all = len(self._trained) == len(list(model.parameters()))
        train = splits[TRAIN]
        self.steps_an_epoch = math.ceil(len(train) / settings.rows_per_step)
        self.steps = settings.max_steps or math.ceil(settings.num_train_epochs * self.steps_an_epoch)
        on_cpu = next(model.parameters()).device.type == "cpu"
        self.processes, threads_each = plan_processes(
            threads if on_cpu else 1,
            batch_size=settings.rows_per_step,
            # What is frozen exists once, and has no gradients.
            weights=sum(weight.numel() for weight in self._trained.values()),
            min_rows_per_process=min_rows_per_process,
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
            max_token_ids=settings.rows_per_step * int(train.lengths.max(initial=0)) + 1,
        )
        if forward_pass is None:
            # With more threads a product is MKL's, which knows how to divide it.
            forward_pass = ClassifierPass(model, fuse(model) if threads_each == 1 else None, problem)
        self._outputs = {name: shared_zeros(len(rows), forward_pass.outputs) for name, rows in splits.items()}
        # A full garbage collection walks over all that transformers has loaded: 50 ms, every hundred steps or so.
        gc.freeze()
        self._blas = ThreadpoolController().select(internal_api="openblas").limit(limits=1)
        self._group = ProcessGroup(
            lambda rank: Rank(
                rank, of=self.processes, threads=threads_each, model=model, forward=forward_pass,
                optimizer=self.optimizer, problem=problem, train_batch_size=settings.rows_per_step,
                micro_batch_size=settings.per_device_train_batch_size,
                eval_batch_size=settings.per_device_eval_batch_size, seed=settings.seed,
                splits=splits, outputs=self._outputs, answer=answer,
            ),
            count=self.processes,
            is_stopping=is_stopping,
        )  # fmt: skip
        self._prepared = -1
        self._is_closed = False

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
        return self.problem.score(self.outputs(split), rows.labels, split=name)

    def outputs(self, split: str) -> np.ndarray:
        """Returns the outputs that `score` has computed last, float32 [rows, outputs]."""
        outputs: np.ndarray = self._outputs[split].numpy()
        return outputs

    def answers(self, batches: Sequence[np.ndarray], *, check: Callable[[], None] = lambda: None) -> list[Answer]:
        """Generates answers to prompts, in their order.

        Args:
            batches: numbers of the prompts that are answered together.
            check: called between batches; may raise to stop.
        """
        found: list[Answer] = []
        for first in range(0, len(batches), self.processes):
            check()
            for share in self._group.call("answer", batches[first : first + self.processes]):
                found += share
        return found

    def size(self, step: int) -> tuple[int, int]:
        """Returns rows and tokens of a step's batch, padding aside."""
        rows = self._group.own.rows(step)
        return len(rows), int(self.splits[TRAIN].lengths[rows].sum())

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the weights that training changes, each once."""
        if not self._trains_all:
            return {name: weight.detach() for name, weight in self._trained.items()}
        # A head that is tied to the embedding has a name of its own.
        again = {name for name, _ in self.model.named_parameters(remove_duplicate=False)} - self._trained.keys()
        return {name: values for name, values in self.model.state_dict().items() if name not in again}

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            KeyError: the weights are those of another model.
        """
        if weights.keys() != self.state_dict().keys():
            raise KeyError("the weights are not those that this run trains")
        self.model.load_state_dict(weights, strict=False)

    def load_state_dict(self, weights: Mapping[str, torch.Tensor], optimizer: dict[str, Any]) -> None:
        """Restores weights and an optimizer's state."""
        self.load_weights(weights)
        self.optimizer.load_state_dict(optimizer)
        self._prepared = -1

    def close(self) -> None:
        """Ends the processes and gives the model its own copy of the weights. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
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
        forward: ForwardPass,
        optimizer: Optimizer,
        problem: Problem,
        train_batch_size: int,
        micro_batch_size: int,
        eval_batch_size: int,
        seed: int,
        splits: Mapping[str, EncodedRows],
        outputs: Mapping[str, torch.Tensor],
        answer: Callable[[np.ndarray], list[Answer]] | None,
    ) -> None:
        """In the process that it works in, once forked.

        Args:
            rank: of this process.
            of: number of processes.
            threads: of this process.
            model: a model of transformers.
            forward: what computes its batches.
            optimizer: over the model's weights, in shared memory.
            problem: decides the loss.
            train_batch_size: rows of a step, in all processes.
            micro_batch_size: maximum rows at once, in all processes.
            eval_batch_size: rows scored at once by each process.
            seed: decides the order of rows and dropout.
            splits: encoded rows; those named TRAIN are trained on.
            outputs: shared, float32 [rows, outputs] by split: what `score` writes.
            answer: generates the answers to prompts, by their numbers.
        """
        torch.set_num_threads(threads)
        optimizer.take_rank(rank)
        self._rank, self._of = rank, of
        self._model, self._forward, self._optimizer = model, forward, optimizer
        self._problem, self._seed = problem, seed
        self._train_batch_size, self._eval_batch_size = train_batch_size, eval_batch_size
        self._micro_batch_rows = -(-micro_batch_size // of)
        self._splits, self._outputs, self._answer = splits, outputs, answer
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
        loss, gradient = self._backward(own, step=step, mass=mass) if len(own) else (0.0, None)
        self._optimizer.publish_gradients(self._token_ids, gradient)
        return loss

    def _backward(self, own: np.ndarray, *, step: int, mass: float) -> tuple[float, torch.Tensor | None]:
        # Dropout is a function of seed, step and process, so a resumed run needs no saved random state.
        _seed_dropout(self._seed, step, self._rank)
        embedding_rows, total = None, 0.0
        if self._forward.reads_embedding_rows and self._optimizer.embedding is not None:
            embedding_rows = self._optimizer.rows(self._token_ids)
        train = self._splits[TRAIN]
        for rows in self._forward.micro_batches(own, lengths=train.lengths, max_rows=self._micro_batch_rows):
            batch = train.batch(rows)
            if embedding_rows is not None:
                batch["input_ids"] = torch.from_numpy(np.searchsorted(self._token_ids, batch["input_ids"].numpy()))
            loss = self._forward.loss_sum(batch, embedding_rows=embedding_rows, masks=partial(self._masks, step)) / mass
            loss.backward()
            total += float(loss.detach())
        return total, None if embedding_rows is None else embedding_rows.grad

    def _masks(self, step: int) -> DropoutMasks:
        return DropoutMasks(seed=self._seed, step=step, process=self._rank)

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
        """Writes the outputs of this process's share of a split's batches from `first` to before `last`."""
        self._model.eval()
        rows, output = self._splits[split], self._outputs[split]
        if split not in self._scoring:
            self._scoring[split] = list(scoring_batches(rows.lengths, batch_size=self._eval_batch_size))
        own = (
            part
            for batch in self._scoring[split][first:last][self._rank :: self._of]
            for part in self._forward.micro_batches(batch, lengths=rows.lengths, max_rows=self._eval_batch_size)
        )
        for chosen, numbers in score_batches(self._forward.score, rows, own):
            output[torch.from_numpy(chosen)] = numbers

    def answer(self, batches: Sequence[np.ndarray]) -> list[Answer]:
        """Generates the answers to this process's batch of prompts, if there is one for it."""
        self._model.eval()
        assert self._answer is not None
        return self._answer(batches[self._rank]) if self._rank < len(batches) else []


def _seed_dropout(*numbers: int) -> None:
    """Sets the state that torch's own dropout draws from. torch.manual_seed asks every back end, for 0.4 ms."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
