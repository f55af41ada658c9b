"""Scores of any model on any labelled texts, printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.training.data.batches import encode
from src.training.data.rows import Examples
from src.training.evaluation.problem import Metrics
from src.training.evaluation.scoring import evaluate
from src.training.model.inputs import reads_token_types
from src.training.problems.kinds import problem_of_config
from src.training.run.console import configure_logging, show_metrics

_EVAL_BATCH_SIZE = 64


def print_performance(
    model: Any,
    tokenizer: Any,
    *,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    labels: Sequence[Any],
    max_seq_length: int,
) -> Metrics:
    """Prints and returns the scores of a model.

    Args:
        model: a classifier of transformers; with one output it is taken for a regression, as transformers does.
        tokenizer: of the model.
        texts: what to score it on.
        pairs: the second text of each, where the model reads pairs.
        labels: class indices; of a regression, values; of many labels, a 1 or a 0 for each.
        max_seq_length: tokens a text is cut to.
    """
    configure_logging()
    examples = Examples(
        split="test",
        texts=tuple(texts),
        text_pairs=None if pairs is None else tuple(pairs),
        labels=tuple(labels),
    )
    token_types = reads_token_types(model, tokenizer)
    scored = evaluate(
        model,
        encode(examples, tokenizer=tokenizer, max_seq_length=max_seq_length, token_types=token_types),
        split=examples.split,
        problem=problem_of_config(model.config),
        batch_size=_EVAL_BATCH_SIZE,
    )
    show_metrics(scored.metrics)
    return scored.metrics
