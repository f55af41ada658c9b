"""Refuses a run that cannot fit into memory, before it begins.

It would be killed by the system in the middle of an epoch, or make the machine swap: both after hours, and without a
word. The estimate is of what training adds to a process that holds the model already, in numbers of 4 bytes.
docs/training.md has it beside measurements.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import MachineError
from src.cli.formats import show_size
from src.training.data.batches import EncodedExamples
from src.training.engine.language_pass import MICRO_BATCH_TOKENS
from src.training.environment.cores import plan_processes
from src.training.environment.memory_limits import available_memory
from src.training.fused.decoder import can_fuse, find_decoder
from src.training.fused.linear import frozen_layers
from src.training.fused.registry import find_fused
from src.training.model.lora import without_adapter
from src.training.optimizer.word_embedding import word_embedding

_BYTES = 4
# A process of its own: Python's objects that it writes to, the libraries' own buffers, the report at the end.
_PROCESS_BYTES = 30 << 20
# Copies of the word embedding while all of its rows are caught up: deferred_adamw.py.
_CATCH_UP_COPIES = 5
# What transformers' own layers keep of a forward pass, against the fused ones: measured 1.3 on BERT, 1.0 on ModernBERT.
_OWN_LAYERS = 1.2
# The estimate is not exact, and a run that fits must not be refused: a run is when this share of its need is too much.
_REFUSED_SHARE = 0.75
# safetensors itself refuses longer ones.
_MAX_HEADER_BYTES = 100_000_000
# Logits, their logarithms and their gradient, where every token is learnt.
_LOGIT_COPIES = 3
# Whatever the batches: weights and two moments.
_MIN_COPIES = 3

log = logging.getLogger("finetune")


def check_model_fits(folder: Path, *, is_frozen: bool = False, available: int | None = None) -> None:
    """Refuses a model before it is loaded: by the shapes that its safetensors files begin with.

    Args:
        folder: the base model's files. A pickle's shapes are not known before it is loaded.
        is_frozen: whether its weights have no moments: those of adapters are small.
        available: bytes; None: ask the system.

    Raises:
        MachineError: the weights and their moments alone are too much.
    """
    available = available_memory() if available is None else available
    minimum = (
        _BYTES
        * (1 if is_frozen else _MIN_COPIES)
        * sum(_parameter_count(path) for path in folder.glob("*.safetensors"))
    )
    if minimum > available:
        raise MachineError(
            f"the weights of this model{'' if is_frozen else ' and the moments of the optimizer'} take "
            f"{minimum / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are available: choose a smaller model"
        )


def _parameter_count(path: Path) -> int:
    """Returns how many parameters a safetensors file holds. It begins with the header's length and the header, JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError):
        # Damaged: loading it gives the error.
        return 0


def check_training_fits(
    model: Any,
    *,
    train_batch_size: int,
    eval_batch_size: int,
    train: EncodedExamples,
    scored: Mapping[str, EncodedExamples],
    threads: int,
    keeps_best: bool,
    available: int | None = None,
) -> None:
    """Refuses a run by an estimate; warns where it may not fit.

    Args:
        model: loaded.
        train_batch_size: rows of a step.
        eval_batch_size: rows scored at once by each process.
        train: rows to train on.
        scored: rows that are scored.
        threads: of the run.
        keeps_best: whether the best epoch's weights are kept beside the model.
        available: bytes; None: ask the system.

    Raises:
        MachineError: it cannot fit.
    """
    size = model_size(model)
    if size is None or next(model.parameters()).device.type != "cpu":
        return
    processes, threads_each = plan_processes(threads, batch_size=train_batch_size, weights=size.weights)
    longest = max(int(split.lengths.max(initial=0)) for split in scored.values())
    max_rows = max(len(split) for split in scored.values())
    load = Load(
        batch=(min(train_batch_size, len(train)), int(train.lengths.max(initial=0))),
        scored=(min(eval_batch_size, max_rows), longest),
        processes=processes,
        is_fused=threads_each == 1 and find_fused(model) is not None,
        keeps_best=keeps_best,
    )
    available = available_memory() if available is None else available
    need = training_need(size, load)
    check_memory(need, load=load, available=available)
    if need.total > available:
        log.warning("training may not fit: about %.1f GB of %.1f GB available", need.total / 1e9, available / 1e9)


def check_language_model_fits(
    model: Any,
    *,
    rows_per_process: int,
    longest: int,
    threads: int,
    keeps_best: bool,
    bf16: bool = False,
    available: int | None = None,
) -> None:
    """Refuses the training of a language model by an estimate; warns where it may not fit.

    Args:
        model: loaded.
        rows_per_process: of a batch.
        longest: tokens of the longest row.
        threads: of the run.
        keeps_best: whether the best epoch's weights are kept beside the model.
        bf16: whether frozen weights are kept in bfloat16 too.
        available: bytes; None: ask the system.

    Raises:
        MachineError: it cannot fit.
    """
    size = model_size(model)
    if size is None or next(model.parameters()).device.type != "cpu":
        return
    tokens = min(rows_per_process * longest, max(MICRO_BATCH_TOKENS, longest))
    # Of transformers' layers measured with LoRA on all linear ones: 14,600 numbers a token and layer of 576 wide and
    # 1,536 inside. Of fused ones all that DecoderLayer keeps.
    is_fused = can_fuse(find_decoder(without_adapter(model)))
    kept = 5 * size.width + 2 * size.inner if is_fused else 12 * size.width + 5 * size.inner
    batch = tokens * (size.layers * kept + _LOGIT_COPIES * size.vocabulary)
    held = (3 + 2 * threads + keeps_best) * size.weights + threads * batch
    if bf16:
        # Two copies, of half the bytes: for the outputs and for the gradients of the inputs.
        held += sum(layer.weight.numel() for layer in frozen_layers(model))
    need = _BYTES * held + threads * _PROCESS_BYTES
    available = available_memory() if available is None else available
    total, free = show_size(need), show_size(available)
    if need * _REFUSED_SHARE > available:
        raise MachineError(
            f"training needs about {total} of memory beside the model, for {size.weights:,} trained weights and "
            f"batches of {tokens:,} tokens in each of {threads} processes, and {free} are available: lower "
            "--max_length, --per_device_train_batch_size or --threads, or choose a smaller model"
        )
    if need > available:
        log.warning("training may not fit: about %s of %s available", total, free)


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What a model's need follows from.

    Attributes:
        weights: that are trained.
        embedding: of its word embedding, whose gradients are sparse; 0 if it is frozen.
        width: of a token between layers.
        inner: of a token inside of a feed-forward part.
        vocabulary: tokens it knows.
    """

    weights: int
    embedding: int
    layers: int
    heads: int
    width: int
    inner: int
    vocabulary: int = 0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a run asks of a model.

    Attributes:
        batch: rows of a step, and tokens of the longest row to train on.
        scored: rows scored at once by each process, and tokens of the longest row to score.
        processes: that share the work.
        is_fused: whether the layers are the fused ones.
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
    """Returns the sizes of a model of transformers; None where its configuration does not have them."""
    config = model.config
    layers, heads, width = (
        getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if not layers or not heads or not width:
        return None
    embedding = word_embedding(model)
    return ModelSize(
        weights=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        embedding=embedding.weight.numel() if embedding is not None and embedding.weight.requires_grad else 0,
        layers=int(layers),
        heads=int(heads),
        width=int(width),
        # DistilBERT has its own name for it.
        inner=int(getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None) or 4 * width),
        vocabulary=int(getattr(config, "vocab_size", 0)),
    )


def training_need(model: ModelSize, load: Load) -> Need:
    """Returns what training adds to a process that has loaded the model."""
    dense = model.weights - model.embedding
    rows, tokens = load.batch
    # In shared memory: weights, two moments, gradients of each process. Beside it gradients as autograd leaves them.
    held = 3 * model.weights + 2 * load.processes * dense + (model.weights if load.keeps_best else 0)
    # Gradients of a batch's embedding rows: of each process, and summed.
    held += (load.processes + 1) * min(rows * tokens * model.width, model.embedding)
    batch = max(_training_pass(model, load), _scoring_pass(model, load))
    catching_up = _CATCH_UP_COPIES * model.embedding
    # What a pass frees, glibc has in pieces, of which the larger blocks of the other find about half.
    peak = max(batch, catching_up) + min(batch, catching_up) // 2
    weights = _BYTES * held + load.processes * _PROCESS_BYTES
    return Need(weights=weights, batch=_BYTES * batch, total=weights + _BYTES * peak)


def _training_pass(model: ModelSize, load: Load) -> int:
    """Returns the numbers that a forward pass keeps for the backward pass, and what that takes beside them."""
    rows, tokens = load.batch
    attention = 7 * model.width + 3 * model.heads * tokens
    feed_forward = 3 * model.width + 2 * model.inner
    # The fused layers compute only the first token of the last one.
    layers = model.layers - 1 if load.is_fused else model.layers
    backward = max(2 * model.inner + 2 * model.width, attention - feed_forward)
    per_token = layers * (attention + feed_forward) + backward + 5 * model.width
    return int(rows * tokens * per_token * (1 if load.is_fused else _OWN_LAYERS))


def _scoring_pass(model: ModelSize, load: Load) -> int:
    """Returns the numbers held at once while rows are scored: those of one layer."""
    rows, tokens = load.scored
    return load.processes * rows * tokens * (6 * model.width + max(2 * model.inner, 3 * model.heads * tokens))


def check_memory(need: Need, *, load: Load, available: int) -> None:
    """Refuses a run that cannot fit.

    Args:
        need: what it adds.
        load: what it asks of the model.
        available: bytes.

    Raises:
        MachineError: it needs more, even if the estimate is too high by a third.
    """
    if need.total * _REFUSED_SHARE <= available:
        return
    total, weights, batch, free = map(show_size, (need.total, need.weights, need.batch, available))
    raise MachineError(
        f"training needs about {total} of memory ({weights} for weights, gradients and optimizer, {batch} for batches "
        f"of {load.batch[0]} rows of up to {load.batch[1]} tokens, scored {load.scored[0]} at once) and {free} are "
        "available: lower --per_device_train_batch_size, --per_device_eval_batch_size or --max_seq_length, or choose a "
        "smaller model"
    )
