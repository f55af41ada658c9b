"""Cores, processes and threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from src.training.environment import cores as available
from src.training.environment.cores import available_cores, plan_processes, resolve_threads


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("nonsense", 8),
        (None, 8),
    ],
)
def test_cores_are_those_that_the_container_may_use(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(available, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_cores() == cores


def test_threads_are_the_recipes_else_two_if_portable_else_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "available_cores", lambda: 64)
    assert resolve_threads(5, reproducible="portable") == 5
    assert resolve_threads(None, reproducible="portable") == 2
    assert resolve_threads(None, reproducible="machine") == 64


BERT_TINY, BERT_BASE, LARGE = 4_386_178, 109_483_778, 2_000_000_000


@pytest.mark.parametrize(
    ("threads", "batch_size", "weights", "processes", "threads_each"),
    [
        (1, 16, BERT_TINY, 1, 1),
        (2, 16, BERT_TINY, 2, 1),
        (3, 16, BERT_TINY, 3, 1),
        # A single row is not worth a process, nor a small model's matrices two threads.
        (16, 16, BERT_TINY, 8, 1),
        (2, 3, BERT_TINY, 1, 1),
        (2, 4, BERT_TINY, 2, 1),
        (2, 1, BERT_TINY, 1, 1),
        (2, 1, BERT_BASE, 1, 2),
        # No gradients of more than 2 GiB.
        (16, 64, BERT_BASE, 4, 4),
        (2, 64, LARGE, 1, 2),
        (2, 64, 0, 2, 1),
    ],
)
def test_threads_are_shared_out_to_as_many_processes_as_pay(
    threads: int, batch_size: int, weights: int, processes: int, threads_each: int
) -> None:
    shared_out = plan_processes(threads, batch_size=batch_size, weights=weights)
    assert shared_out == (processes, threads_each)
    assert processes * threads_each <= threads


def test_where_processes_cannot_be_forked_threads_do_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "can_fork", lambda: False)
    assert plan_processes(4, batch_size=16, weights=BERT_TINY) == (1, 4)
