"""The scoring loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from src.training.batching import Batch, EncodedRows, scoring_batches
from src.training.metrics import Metrics, score


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
) -> Metrics:
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
    predicted = torch.empty(len(rows), dtype=torch.int64)
    losses = 0.0
    with torch.inference_mode():
        for chosen in scoring_batches(rows.lengths, batch_size=batch_size):
            check()
            output = model(**on_device(rows.batch(chosen), device))
            losses += float(output.loss) * len(chosen)
            predicted[torch.from_numpy(chosen)] = output.logits.argmax(dim=-1).cpu()
    return score(
        split=split, loss=losses / len(rows), predicted=predicted.numpy(), true=rows.labels, class_names=class_names
    )
