"""What one process computes of a batch: a loss to learn from, or numbers to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch

from src.training.data.batches import Batch
from src.training.evaluation.problem import Problem
from src.training.fused.dropout import DropoutMasks
from src.training.fused.registry import FusedModel


class ForwardPass(Protocol):
    """How a kind of model is computed. Batches come as the examples of that kind make them.

    Attributes:
        outputs: numbers that scoring yields for each example.
        reads_embedding_rows: whether `loss_sum` takes the embedding's rows as a leaf of their own.
    """

    outputs: int
    reads_embedding_rows: bool

    def micro_batches(self, rows: np.ndarray, *, lengths: np.ndarray, max_rows: int) -> Iterator[np.ndarray]:
        """Yields rows in portions of at most `max_rows`, or fewer if they are long.

        Args:
            rows: numbers of a process's rows of a batch.
            lengths: tokens of all rows, int64.
            max_rows: of a portion.
        """

    def loss_sum(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None, masks: Callable[[], DropoutMasks]
    ) -> torch.Tensor:
        """Returns the sum of a batch's losses, as of Problem.loss_sum.

        Args:
            batch: with labels.
            embedding_rows: what input_ids count, where `reads_embedding_rows`.
            masks: makes dropout's.
        """

    def score(self, batch: Batch) -> torch.Tensor:
        """Returns what Problem.score takes, float32 [examples, outputs]."""


class ClassifierPass:
    """A classifier's or a regression's: logits of whole texts."""

    def __init__(self, model: Any, fused: FusedModel | None, problem: Problem) -> None:
        """Takes a classifier of transformers and its faster forward pass, if there is one."""
        self._model, self._fused, self._problem = model, fused, problem
        self._device = next(model.parameters()).device
        self.outputs: int = model.config.num_labels
        self.reads_embedding_rows = fused is not None

    def micro_batches(self, rows: np.ndarray, *, lengths: np.ndarray, max_rows: int) -> Iterator[np.ndarray]:
        """See ForwardPass.micro_batches."""
        del lengths
        for start in range(0, len(rows), max_rows):
            yield rows[start : start + max_rows]

    def loss_sum(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None, masks: Callable[[], DropoutMasks]
    ) -> torch.Tensor:
        """See ForwardPass.loss_sum."""
        labels = batch.pop("labels").to(self._device)
        if self._fused is not None:
            logits = self._fused(batch, embedding_rows=embedding_rows, masks=masks())
        else:
            logits = self._model(**self._moved(batch)).logits
        return self._problem.loss_sum(logits, labels)

    def score(self, batch: Batch) -> torch.Tensor:
        """Returns logits."""
        batch = {name: values for name, values in batch.items() if name != "labels"}
        if self._fused is not None:
            return self._fused(batch)
        logits: torch.Tensor = self._model(**self._moved(batch)).logits
        return logits

    def _moved(self, batch: Batch) -> Batch:
        return {name: values.to(self._device) for name, values in batch.items()}
