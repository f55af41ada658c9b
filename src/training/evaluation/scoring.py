"""The scoring loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from src.training.data.batches import Batch, EncodedExamples, EncodedRows, scoring_batches
from src.training.evaluation.problem import Problem, Scored


def score_batches(
    forward: Callable[[Batch], torch.Tensor], examples: EncodedRows, batches: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Yields the example numbers of each batch and what the forward pass returns for them, on the CPU.

    Args:
        forward: takes a batch; returns float32 [examples, outputs].
        examples: all of them.
        batches: example numbers, batch by batch.
    """
    for chosen in batches:
        batch = examples.batch(chosen)
        with torch.inference_mode():
            outputs = forward(batch).float().cpu()
        yield chosen, outputs


def evaluate(model: Any, examples: EncodedExamples, *, split: str, problem: Problem, batch_size: int) -> Scored:
    """Scores a model. Leaves it in evaluation mode.

    Args:
        model: a model of transformers with a classification head.
        examples: what to score it on.
        split: their name.
        problem: what the model was, or is to be, trained for.
        batch_size: examples at once.
    """
    model.eval()
    device = next(model.parameters()).device

    def forward(batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = model(
            **{name: values.to(device) for name, values in batch.items() if name != "labels"}
        ).logits
        return logits

    logits = np.empty((len(examples), model.config.num_labels), np.float32)
    for chosen, scores in score_batches(forward, examples, scoring_batches(examples.lengths, batch_size=batch_size)):
        logits[chosen] = scores.numpy()
    return problem.score(logits, examples.labels, split=split)
