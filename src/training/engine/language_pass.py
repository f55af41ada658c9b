"""A language model's forward pass: the loss of tokens, and for scoring the sums over each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional

from src.training.data.batches import Batch
from src.training.evaluation.problem import Problem
from src.training.fused.causal import CausalForward
from src.training.fused.dropout import DropoutMasks
from src.training.inference.generator import has_clear_best
from src.training.problems.generation.problem import GenerationProblem

# What goes through the model at once, unless a single row is longer: of a model of 135 M weights the backward pass
# needs 1.8 MB a token.
MICRO_BATCH_TOKENS = 1024


class LanguagePass:
    """See ForwardPass. Scoring yields what GenerationProblem says of each row."""

    outputs = len(GenerationProblem.output_names)
    reads_embedding_rows = False

    def __init__(self, forward: CausalForward, problem: Problem) -> None:
        """Takes a model's forward pass, and what decides the loss."""
        self._forward, self._problem = forward, problem

    def micro_batches(self, rows: np.ndarray, *, lengths: np.ndarray, max_rows: int) -> Iterator[np.ndarray]:
        """See ForwardPass.micro_batches. The sum of their losses is that of the whole batch, not a mean of means."""
        size = max(1, min(max_rows, MICRO_BATCH_TOKENS // int(lengths[rows].max())))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def loss_sum(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None, masks: Callable[[], DropoutMasks]
    ) -> torch.Tensor:
        """See ForwardPass.loss_sum. The examples are the batch's learnt tokens."""
        del embedding_rows, masks
        return self._problem.loss_sum(self._forward(batch), batch["labels"])

    def score(self, batch: Batch) -> torch.Tensor:
        """See ForwardPass.score."""
        logits, labels = self._forward(batch), batch["labels"]
        losses = functional.cross_entropy(logits, labels, reduction="none")
        right = logits.argmax(1) == labels
        tokens = torch.stack([losses, torch.ones_like(losses), right, right & has_clear_best(logits)], 1)
        return tokens.new_zeros(len(batch["input_ids"]), self.outputs).index_add_(0, batch["targets"][:, 0], tokens)
