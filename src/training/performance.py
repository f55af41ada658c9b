"""Scores of any model on any labelled texts, printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.training.batching import encode
from src.training.console import configure_logging, show_metrics
from src.training.data import Rows
from src.training.metrics import Metrics
from src.training.scoring import evaluate

_EVAL_BATCH_SIZE = 64


def print_performance(
    model: Any, tokenizer: Any, *, texts: Sequence[str], labels: Sequence[int], max_seq_length: int
) -> Metrics:
    """Prints and returns the scores of a model on texts with class indices."""
    configure_logging()
    rows = Rows(split="test", texts=tuple(texts), labels=tuple(labels))
    scored = evaluate(
        model,
        encode(rows, tokenizer=tokenizer, max_seq_length=max_seq_length),
        split=rows.split,
        class_names=tuple(model.config.id2label[at] for at in range(model.config.num_labels)),
        batch_size=_EVAL_BATCH_SIZE,
    )
    show_metrics(scored.metrics)
    return scored.metrics
