"""The optimizer: its weights, gradients and state lie in memory that all training processes share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.optim.adamw import adamw

from src.training.optimizer.deferred_adamw import DeferredAdamW
from src.training.optimizer.flat_weights import FlatWeights
from src.training.optimizer.schedule import Schedule
from src.training.optimizer.shared_memory import shared_zeros
from src.training.optimizer.word_embedding import is_read_by_tokens_alone, word_embedding


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019): fused where every weight has a gradient, deferred for the word embedding.

    Each process publishes the gradients of its rows, reduces those of all processes for its share of the weights, and
    updates that share (ZeRO, Rajbhandari et al. 2020, in shared memory): no weight, moment or update is stored twice.
    Sums are in the order of the processes, so equal runs have equal bits.
    """

    def __init__(
        self,
        model: Any,
        schedule: Schedule,
        *,
        weight_decay: float,
        max_grad_norm: float,
        processes: int = 1,
        max_token_ids: int = 0,
    ) -> None:
        """Moves a model's weights to shared memory.

        Args:
            model: a model of transformers.
            schedule: of the learning rate, over the whole run.
            weight_decay: of what decays, at every step.
            max_grad_norm: the whole gradient is scaled down to this norm; 0 disables clipping.
            processes: that share the work.
            max_token_ids: maximum number of distinct token ids in a batch.
        """
        self._schedule, self._processes = schedule, processes
        self._weight_decay, self._max_grad_norm = weight_decay, max_grad_norm
        self.embedding = None
        rows = width = 0
        embedding = word_embedding(model)
        if (
            embedding is not None
            and embedding.weight.device.type == "cpu"
            and embedding.weight.requires_grad
            and is_read_by_tokens_alone(model, embedding)
        ):
            self.embedding = self._defer(embedding)
            rows, width = min(max_token_ids, embedding.num_embeddings), embedding.embedding_dim
        deferred = None if self.embedding is None else self.embedding.weight
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        self.flat = FlatWeights([pair for pair in named if pair[1] is not deferred], processes=processes)
        self._mean, self._square = (self.flat.zeros(self.flat.size) for _ in range(2))
        self._norms = shared_zeros(processes)
        self._row_gradients = shared_zeros(processes, rows, width)
        self.take_rank(0)

    def _defer(self, embedding: Any) -> DeferredAdamW:
        embedding.sparse = True
        return DeferredAdamW(
            embedding.weight,
            learning_rate=self._schedule,
            steps=self._schedule.steps,
            weight_decay=self._weight_decay,
        )

    def take_rank(self, rank: int) -> None:
        """Makes this process work on a rank's share."""
        self._rank = rank
        self._share = self.flat.share(rank, of=self._processes)
        self.flat.take_rank(rank)
        self._own_rows = np.empty(0, np.int64)
        self._row_gradient = torch.empty(0)

    def catch_up(self, token_ids: np.ndarray, *, step: int) -> None:
        """Brings this process's share of the embedding rows that a batch reads up to date, before its forward pass.

        Args:
            token_ids: int64, each once.
            step: number of the step, from 0.
        """
        if self.embedding is not None:
            self.embedding.catch_up(torch.from_numpy(token_ids[self._is_own(token_ids)]), done=step)

    def rows(self, token_ids: np.ndarray) -> torch.Tensor:
        """Returns rows of the embedding as a leaf, [token ids, width], whose gradient `publish_gradients` takes."""
        assert self.embedding is not None
        return self.embedding.weight.detach()[torch.from_numpy(token_ids)].requires_grad_()

    def _is_own(self, token_ids: np.ndarray) -> np.ndarray:
        own: np.ndarray = token_ids % self._processes == self._rank
        return own

    def publish_gradients(self, token_ids: np.ndarray, gradient: torch.Tensor | None) -> None:
        """Puts this process's gradients where the others see them.

        Args:
            token_ids: those of the whole step's batch, as for `catch_up`.
            gradient: of their rows, [token ids, width]; None to take it from the embedding itself, if it has one.
        """
        self.flat.publish_gradients(self._rank)
        if self.embedding is None:
            return
        place = self._row_gradients[self._rank, : len(token_ids)]
        if gradient is not None:
            place.copy_(gradient)
            return
        place.zero_()
        if self.embedding.weight.grad is not None:
            sparse = self.embedding.weight.grad.coalesce()
            place[torch.from_numpy(np.searchsorted(token_ids, sparse.indices()[0].numpy()))] = sparse.values()
            self.embedding.weight.grad = None

    def reduce_gradients(self, token_ids: np.ndarray) -> None:
        """Sums the gradients of this process's share of the weights, once all processes have published theirs."""
        squares = self.flat.reduce_gradients(self._share)
        if self.embedding is not None:
            at = torch.from_numpy(np.flatnonzero(self._is_own(token_ids)))
            self._own_rows = token_ids[at.numpy()]
            self._row_gradient = self._row_gradients[0].index_select(0, at)
            for row_gradients in self._row_gradients[1:]:
                self._row_gradient += row_gradients.index_select(0, at)
            squares = squares + (self._row_gradient * self._row_gradient).sum()
        self._norms[self._rank] = squares

    def step(self, step: int) -> float:
        """Updates this process's share, once all processes have reduced; returns the learning rate.

        Args:
            step: number of the step, from 0.
        """
        rate = self._schedule(step)
        scale = self._clipping()
        border = self.flat.decayed
        for part, decay in (
            (slice(self._share.start, min(border, self._share.stop)), self._weight_decay),
            (slice(max(border, self._share.start), self._share.stop), 0.0),
        ):
            if part.start < part.stop:
                self._update(part, step=step, rate=rate, decay=decay, scale=scale)
        if self.embedding is not None:
            self.embedding.step(torch.from_numpy(self._own_rows), self._row_gradient.mul_(scale), done=step)
        return rate

    def _update(self, part: slice, *, step: int, rate: float, decay: float, scale: float) -> None:
        device = self.flat.values.device
        adamw(
            [self.flat.values[part]],
            [self.flat.gradients[0][part]],
            [self._mean[part]],
            [self._square[part]],
            [],
            [torch.tensor(float(step), device=device)],
            fused=True,
            grad_scale=None if scale == 1.0 else torch.tensor(1.0 / scale, device=device),
            amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8, lr=rate, weight_decay=decay, maximize=False,
        )  # fmt: skip

    def _clipping(self) -> float:
        """Returns the factor that scales the whole gradient down to the maximum norm."""
        norm = math.sqrt(float(self._norms.sum()))
        return min(1.0, self._max_grad_norm / (norm + 1e-6)) if self._max_grad_norm else 1.0

    def catch_up_all(self, *, done: int) -> None:
        """Brings this process's share of the embedding up to date: before it is scored or anybody else gets the model.

        Args:
            done: steps done.
        """
        if self.embedding is not None:
            self.embedding.catch_up(torch.arange(self._rank, len(self.embedding.weight), self._processes), done=done)

    def release(self) -> None:
        """Gives the model its own copy of the weights."""
        self.flat.release()
        if self.embedding is not None:
            self.embedding.weight.data = self.embedding.weight.data.clone()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, for a checkpoint."""
        token_ids = {} if self.embedding is None else self.embedding.state_dict()
        return {"mean": self._mean, "square": self._square, "embedding": token_ids}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        if self.embedding is not None:
            self.embedding.load_state_dict(state["embedding"])
