"""Memory that forked processes share."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.training.optimizer.shared_memory import shared_zeros


def test_it_is_zeros_of_the_shape_and_kind() -> None:
    for shape, dtype in (((3, 4), torch.float32), ((5,), torch.int64), ((2, 1, 3), torch.float32)):
        memory = shared_zeros(*shape, dtype=dtype)
        assert (memory.shape, memory.dtype) == (shape, dtype)
        assert not memory.any()


def test_there_may_be_nothing_to_share() -> None:
    assert shared_zeros(0, 4).shape == (0, 4)
    assert shared_zeros(3, 0).sum() == 0


def in_a_fork(do: Callable[[], None]) -> None:
    """Calls a function in a forked process and waits for its end."""
    process = os.fork()
    if not process:
        try:
            do()
        finally:
            os._exit(0)
    os.waitpid(process, 0)


def test_either_process_sees_what_the_other_writes() -> None:
    memory = shared_zeros(4)
    plain = torch.zeros(4)
    memory[0] = 1

    def write() -> None:
        memory[1] = memory[0] + 1
        plain[1] = 5

    in_a_fork(write)
    assert memory.tolist() == [1, 2, 0, 0]
    assert plain.tolist() == [0, 0, 0, 0]


def test_it_lives_as_long_as_any_view_of_it() -> None:
    view = shared_zeros(1 << 16)[7:9]
    gc.collect()
    shared_zeros(1 << 16).fill_(3)
    view += 1
    assert view.tolist() == [1, 1]


def test_it_needs_no_file() -> None:
    files = len(list(Path("/proc/self/fd").iterdir()))
    kept = [shared_zeros(1000) for _ in range(5)]
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert len(kept) == 5


def test_more_memory_than_there_is_is_refused() -> None:
    with pytest.raises(OSError):
        shared_zeros(1 << 44, 1 << 10)
