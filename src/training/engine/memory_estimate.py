"""What training will need in memory, before it begins, against what there is.

A run that does not fit would be killed by the system in the middle of an epoch, or make the machine swap: both after
hours, and without a word. The estimate is of what training adds to a process that holds the model already, in numbers
of 4 bytes. docs/training.md has it beside measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from src.cli.errors import RequestError

_BYTES = 4
# A process of its own: Python's objects that it writes to, the libraries' own buffers, the report at the end.
_PROCESS_BYTES = 30 << 20
# Copies of the word embedding while all of its rows are brought up to now: deferred_adamw.py.
_SETTLING = 5
# What transformers' own layers keep of a forward pass, against the fused ones: measured 1.3 on BERT, 1.0 on ModernBERT.
_OWN_LAYERS = 1.2
# The estimate is not exact, and a run that fits must not be refused: it is when this share of the need is too much.
_SURELY = 0.75


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What a model's need follows from.

    Attributes:
        weights: numbers in the model.
        embedding: numbers in its word embedding, whose gradients are sparse.
        width: of a token between layers.
        inner: of a token inside of a feed-forward part.
    """

    weights: int
    embedding: int
    layers: int
    heads: int
    width: int
    inner: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a run asks of a model.

    Attributes:
        batch: rows of a step, and tokens of the longest row to train on.
        scored: rows scored at once by each process, and tokens of the longest row to score.
        processes: that share the work.
        is_fused: whether the layers are those of fused_layers.py.
        keeps_best: whether the best epoch's weights are kept beside the model.
    """

    batch: tuple[int, int]
    scored: tuple[int, int]
    processes: int
    is_fused: bool
    keeps_best: bool


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes that training adds: for weights and all that goes with them, for one pass over a batch, in all."""

    weights: int
    batch: int
    total: int


def model_size(model: Any) -> ModelSize | None:
    """Returns the sizes of a model of transformers; None where its configuration does not tell them."""
    config = model.config
    layers, heads, width = (
        getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if not layers or not heads or not width:
        return None
    return ModelSize(
        weights=sum(weight.numel() for weight in model.parameters()),
        embedding=model.get_input_embeddings().weight.numel(),
        layers=int(layers),
        heads=int(heads),
        width=int(width),
        # DistilBERT has its own name for it.
        inner=int(getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None) or 4 * width),
    )


def training_need(model: ModelSize, load: Load) -> Need:
    """Returns what training adds to a process that has loaded the model."""
    dense = model.weights - model.embedding
    rows, tokens = load.batch
    # In shared memory: weights, two moments, gradients of each process. Beside it gradients as autograd leaves them.
    kept = 3 * model.weights + 2 * load.processes * dense + (model.weights if load.keeps_best else 0)
    # Gradients of a batch's words: of each process, and summed.
    kept += (load.processes + 1) * min(rows * tokens * model.width, model.embedding)
    batch = max(_training_pass(model, load), _scoring_pass(model, load))
    settling = _SETTLING * model.embedding
    # What a pass frees, glibc has in pieces, of which the larger blocks of the other find about half.
    passing = max(batch, settling) + min(batch, settling) // 2
    weights = _BYTES * kept + load.processes * _PROCESS_BYTES
    return Need(weights=weights, batch=_BYTES * batch, total=weights + _BYTES * passing)


def _training_pass(model: ModelSize, load: Load) -> int:
    """Returns the numbers that a forward pass keeps for the way back, and what the way back takes beside them."""
    rows, tokens = load.batch
    attention = 7 * model.width + 3 * model.heads * tokens
    feed_forward = 3 * model.width + 2 * model.inner
    # The fused layers compute only the first token of the last one.
    layers = model.layers - 1 if load.is_fused else model.layers
    back = max(2 * model.inner + 2 * model.width, attention - feed_forward)
    a_token = layers * (attention + feed_forward) + back + 5 * model.width
    return int(rows * tokens * a_token * (1 if load.is_fused else _OWN_LAYERS))


def _scoring_pass(model: ModelSize, load: Load) -> int:
    """Returns the numbers that stand at once while rows are scored: those of one layer."""
    rows, tokens = load.scored
    return load.processes * rows * tokens * (6 * model.width + max(2 * model.inner, 3 * model.heads * tokens))


def check_memory(need: Need, *, load: Load, available: int) -> None:
    """Refuses a run that cannot fit.

    Args:
        need: what it adds.
        load: what it asks of the model.
        available: bytes that there are.

    Raises:
        RequestError: it needs more, even if the estimate is too high by a third.
    """
    if need.total * _SURELY <= available:
        return
    raise RequestError(
        f"training needs about {_told(need.total)} of memory ({_told(need.weights)} for weights, gradients and "
        f"optimizer, {_told(need.batch)} for batches of {load.batch[0]} rows of up to {load.batch[1]} tokens, scored "
        f"{load.scored[0]} at once) and {_told(available)} are available: lower --per_device_train_batch_size, "
        "--per_device_eval_batch_size or --max_seq_length, or choose a smaller model"
    )


def _told(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e8 else f"{size / 1e6:.0f} MB"
