"""The scoring loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from src.training.batching import Batch, EncodedRows, scoring_batches
from src.training.metrics import Metrics, score


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a model said of rows, and how good that was.

    Attributes:
        metrics: the scores.
        predicted: class indices, int64 [rows].
        confidence: softmax probability of the predicted class, float32 [rows].
    """

    metrics: Metrics
    predicted: np.ndarray
    confidence: np.ndarray


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch where the model is."""
    return {name: values.to(device) for name, values in batch.items()}


def evaluate(
    model: torch.nn.Module,
    rows: EncodedRows,
    *,
    split: str,
    class_names: Sequence[str],
    batch_size: int,
    check: Callable[[], None] = lambda: None,
) -> Scored:
    """Scores a model on rows. Leaves the model in evaluation mode.

    Args:
        model: a classifier of transformers.
        rows: what to score it on.
        split: name of the rows.
        class_names: names by index.
        batch_size: rows at once.
        check: called before each batch; may raise to end the scoring.
    """
    model.eval()
    device = next(model.parameters()).device
    predicted, confidence = torch.empty(len(rows), dtype=torch.int64), torch.empty(len(rows))
    losses = 0.0
    with torch.inference_mode():
        for chosen in scoring_batches(rows.lengths, batch_size=batch_size):
            check()
            output = model(**on_device(rows.batch(chosen), device))
            losses += float(output.loss) * len(chosen)
            best = output.logits.argmax(dim=-1, keepdim=True)
            at = torch.from_numpy(chosen)
            predicted[at] = best[:, 0].cpu()
            confidence[at] = output.logits.float().softmax(dim=-1).gather(1, best)[:, 0].cpu()
    metrics = score(
        split=split, loss=losses / len(rows), predicted=predicted.numpy(), true=rows.labels, class_names=class_names
    )
    return Scored(metrics=metrics, predicted=predicted.numpy(), confidence=confidence.numpy())
