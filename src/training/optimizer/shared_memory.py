"""Memory that a process and those it forks afterwards all see."""

from __future__ import annotations

import math
import mmap

import torch


def shared_zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Returns zeros that processes forked later share, reads and writes alike.

    Anonymous memory, not a file in /dev/shm: containers give that 64 MB, or none. Pages count once they are written.

    Raises:
        OSError: not enough memory.
    """
    count = math.prod(shape)
    if not count:
        return torch.zeros(*shape, dtype=dtype)
    memory = mmap.mmap(-1, count * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(*shape)
