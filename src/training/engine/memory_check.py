"""Refuses a run that cannot fit into memory, before it begins."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.data.batches import EncodedExamples
from src.training.engine.memory_estimate import Load, check_memory, model_size, training_need
from src.training.environment.cores import plan_processes
from src.training.environment.memory_limits import available_memory
from src.training.fused.encoder import encoder_parts

# safetensors takes no longer ones.
_LONGEST_HEADER = 100_000_000
# Whatever the batches: weights and two moments.
_AT_LEAST = 3

log = logging.getLogger("finetune")


def check_model_fits(folder: Path, *, available: int | None = None) -> None:
    """Refuses a model before it is loaded: by the shapes that its safetensors files begin with.

    Args:
        folder: the base model's files. Of a pickle nothing is known before it is loaded.
        available: bytes that there are; None: ask the system.

    Raises:
        RequestError: the weights and their moments alone are too much.
    """
    there = available_memory() if available is None else available
    least = 4 * _AT_LEAST * sum(_numbers(path) for path in folder.glob("*.safetensors"))
    if least > there:
        raise RequestError(
            f"the weights of this model and the optimizer's moments take {least / 1e9:.1f} GB of memory, and "
            f"{there / 1e9:.1f} GB are available: choose a smaller model"
        )


def _numbers(path: Path) -> int:
    """Returns how many numbers a safetensors file holds: length of the header, header as JSON, numbers."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError):
        # It is damaged: whoever loads it tells so.
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
    """Refuses a run by the estimate of memory.py; warns where it may not fit.

    Args:
        model: loaded.
        train_batch_size: rows of a step.
        eval_batch_size: rows scored at once by each process.
        train: rows to train on.
        scored: rows that are scored.
        threads: of the run.
        keeps_best: whether the best epoch's weights are kept beside the model.
        available: bytes that there are; None: ask the system.

    Raises:
        RequestError: it cannot fit.
    """
    size = model_size(model)
    if size is None or next(model.parameters()).device.type != "cpu":
        return
    processes, threads_each = plan_processes(threads, batch_size=train_batch_size, weights=size.weights)
    longest = max(int(split.lengths.max(initial=0)) for split in scored.values())
    most = max(len(split) for split in scored.values())
    load = Load(
        batch=(min(train_batch_size, len(train)), int(train.lengths.max(initial=0))),
        scored=(min(eval_batch_size, most), longest),
        processes=processes,
        is_fused=threads_each == 1 and encoder_parts(model) is not None,
        keeps_best=keeps_best,
    )
    there = available_memory() if available is None else available
    need = training_need(size, load)
    check_memory(need, load=load, available=there)
    if need.total > there:
        log.warning("training may not fit: about %.1f GB of %.1f GB available", need.total / 1e9, there / 1e9)
