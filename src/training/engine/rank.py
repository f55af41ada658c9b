"""One process's share of training: its rows of every batch, forward and back, and its share of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from src.training.data.batches import Batch, EncodedExamples, epoch_batches, scoring_batches
from src.training.evaluation.problem import Problem
from src.training.evaluation.scoring import score_batches
from src.training.fused.dropout import DropoutMasks
from src.training.fused.forward import FusedClassifier
from src.training.optimizer.optimizer import Optimizer


class Rank:
    """A share of the work; the methods are called in all processes at once, in the order of a step."""

    def __init__(
        self,
        rank: int,
        *,
        of: int,
        threads: int,
        model: Any,
        fused: FusedClassifier | None,
        optimizer: Optimizer,
        problem: Problem,
        train_batch_size: int,
        eval_batch_size: int,
        seed: int,
        splits: Mapping[str, EncodedExamples],
        outputs: Mapping[str, torch.Tensor],
    ) -> None:
        """Takes everything that the processes share.

        Args:
            rank: of this process.
            of: number of processes.
            threads: of this process.
            model: a classifier of transformers.
            fused: its faster forward pass, if there is one.
            optimizer: over the model's weights.
            problem: decides the loss.
            train_batch_size: rows of a step, in all processes.
            eval_batch_size: rows scored at once by each process.
            seed: decides the order of rows and dropout.
            splits: encoded rows; those named "train" are trained on.
            outputs: shared, float32 [rows, outputs] by split: where `score` leaves the logits.
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
        train, size = self._splits["train"], self._train_batch_size
        epoch, at = divmod(step, -(-len(train) // size))
        if epoch != self._epoch:
            self._batches = epoch_batches(train.lengths, batch_size=size, seed=self._seed, epoch=epoch)
            self._epoch = epoch
        return self._batches[at]

    def prepare(self, step: int) -> None:
        """Brings this process's share of the embedding rows that a step reads up to date."""
        train = self._splits["train"]
        self._token_ids = np.unique(np.append(train.tokens(self.rows(step)), train.pad_id).astype(np.int64))
        self._optimizer.catch_up(self._token_ids, step=step)

    def gradients(self, step: int) -> float:
        """Goes forward and back with this process's rows; returns their part of the batch's loss."""
        if not self._model.training:
            self._model.train()
        rows, train = self.rows(step), self._splits["train"]
        mass = self._problem.mass(torch.from_numpy(train.labels[rows]))
        # Rows stand by length: every n-th gives each process as many tokens as the others.
        own = rows[self._rank :: self._of]
        # The last batch of an epoch may have fewer rows than there are processes.
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
        """Leaves the logits of this process's share of a split's batches from `first` to before `last`."""
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
