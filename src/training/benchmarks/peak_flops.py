"""Peak throughput of the processor, measured on matrix products, and the work of a step to compare with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from threadpoolctl import threadpool_limits

_SIZE = 1024
_REPEATS = 8


def peak_flops(*, threads: int, shapes: Sequence[tuple[int, int, int]] = (), bf16: bool = False) -> float:
    """Returns the operations per second of products in this process, each by torch's BLAS or numpy's: the faster.

    Args:
        threads: of this process.
        shapes: rows, inner and columns of each product; none: a single large one.
        bf16: whether they are of bfloat16, which numpy has not.
    """
    torch.set_num_threads(threads)
    shapes = shapes or [(_SIZE, _SIZE, _SIZE)]
    with threadpool_limits(threads, user_api="blas"):
        seconds = sum(_fastest(shape, bf16=bf16) for shape in shapes)
    return 2 * sum(map(math.prod, shapes)) / seconds


def _fastest(shape: tuple[int, int, int], *, bf16: bool) -> float:
    rows, inner, columns = shape
    left, right = torch.rand(rows, inner), torch.rand(columns, inner).t()
    if bf16:
        left, right = left.bfloat16(), right.bfloat16()
        return _seconds(lambda: torch.mm(left, right))
    return min(map(_seconds, (lambda: torch.mm(left, right), lambda: left.numpy() @ right.numpy())))


def _seconds(compute: Callable[[], object]) -> float:
    """Returns what the fastest of some repetitions took."""
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        compute()
        times.append(time.perf_counter() - started)
    return min(times)


def training_flops_a_token(model: Any) -> float:
    """Returns the operations of a forward and backward pass for one token: 6 for each weight it is multiplied by.

    Of a frozen weight, which has no gradient, 4.

    Kaplan et al. 2020, section 2.1. Embeddings are looked up, not multiplied; attention's own products are left out:
    on SST-2's 13 tokens they are under 2 % for bert-tiny.
    """
    embeddings = {id(weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
                  for weight in module.parameters()}  # fmt: skip
    return sum((6.0 if weight.requires_grad else 4.0) * weight.numel()
               for weight in model.parameters() if id(weight) not in embeddings)  # fmt: skip
