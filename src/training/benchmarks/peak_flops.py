"""Peak throughput of the processor, measured on matrix products, and the work of a step to compare with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from threadpoolctl import threadpool_limits

_SIZE = 1024
_REPEATS = 8


def peak_flops(*, threads: int) -> float:
    """Returns the operations per second of a large product in this process, by torch's BLAS or numpy's: the faster."""
    torch.set_num_threads(threads)
    left, right = (torch.rand(_SIZE, _SIZE) for _ in range(2))
    with threadpool_limits(threads, user_api="blas"):
        best = min(map(_seconds, (lambda: torch.mm(left, right), lambda: left.numpy() @ right.numpy())))
    return 2 * _SIZE**3 / best


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

    Kaplan et al. 2020, section 2.1. Embeddings are looked up, not multiplied; attention's own products are left out:
    on SST-2's 13 tokens they are under 2 % for bert-tiny.
    """
    embeddings = {id(weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
                  for weight in module.parameters()}  # fmt: skip
    return 6.0 * sum(weight.numel() for weight in model.parameters() if id(weight) not in embeddings)
