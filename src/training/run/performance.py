"""Scores of any model on any labelled texts, printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.training.data.batches import encode
from src.training.data.rows import Examples
from src.training.evaluation.scoring import evaluate
from src.training.evaluation.value_metrics import AnyMetrics
from src.training.model.inputs import reads_token_types
from src.training.model.objective import Objective
from src.training.recipes.recipe import CLASSIFICATION, REGRESSION
from src.training.run.console import configure_logging, show_metrics

_EVAL_BATCH_SIZE = 64


def print_performance(
    model: Any,
    tokenizer: Any,
    *,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    labels: Sequence[int | float],
    max_seq_length: int,
) -> AnyMetrics:
    """Prints and returns the scores of a model.

    Args:
        model: a classifier of transformers; with one output it is taken for a regression, as transformers does.
        tokenizer: of the model.
        texts: what to score it on.
        pairs: the second text of each, where the model reads pairs.
        labels: class indices; of a regression, values.
        max_seq_length: tokens a text is cut to.
    """
    configure_logging()
    is_regression = model.config.problem_type == "regression" or model.config.num_labels == 1
    rows = Examples(
        split="test",
        texts=tuple(texts),
        text_pairs=None if pairs is None else tuple(pairs),
        labels=tuple(map(float if is_regression else int, labels)),
    )
    token_types = reads_token_types(model, tokenizer)
    scored = evaluate(
        model,
        encode(rows, tokenizer=tokenizer, max_seq_length=max_seq_length, token_types=token_types),
        split=rows.split,
        class_names=tuple(model.config.id2label[at] for at in range(model.config.num_labels)),
        batch_size=_EVAL_BATCH_SIZE,
        objective=Objective(kind=REGRESSION if is_regression else CLASSIFICATION),
    )
    show_metrics(scored.metrics)
    return scored.metrics
