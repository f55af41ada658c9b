"""Cores, instruction set, signals and the deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.training import runtime
from src.training.errors import StopRequested
from src.training.recipe import Recipe
from src.training.runtime import StopSignal, available_cores, resolve_threads, share_out_threads


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    """Has taken over this process's signals; they are given back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = StopSignal(deadline_seconds=None)
    taken.install()
    yield taken
    for number, handler in handlers.items():
        signal.signal(number, handler)


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
    monkeypatch.setattr(runtime, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_cores() == cores


def test_threads_are_the_recipes_else_two_if_portable_else_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "available_cores", lambda: 64)
    assert resolve_threads(Recipe(threads=5, reproducible="portable")) == 5
    assert resolve_threads(Recipe(reproducible="portable")) == 2
    assert resolve_threads(Recipe()) == 64


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
    shared_out = share_out_threads(threads, batch_size=batch_size, weights=weights)
    assert shared_out == (processes, threads_each)
    assert processes * threads_each <= threads


def test_where_processes_cannot_be_forked_threads_do_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "can_fork", lambda: False)
    assert share_out_threads(4, batch_size=16, weights=BERT_TINY) == (1, 4)


def pin_in_a_process(program: str, **environment: str) -> list[str]:
    """Runs a program that calls pin(kind); returns the words that it prints."""
    begin = """
import os, sys
from src.training.errors import RequestError
from src.training.recipe import Recipe
from src.training.runtime import prepare_environment
def pin(kind):
    try:
        prepare_environment(Recipe(reproducible=kind))
        print("pinned")
    except RequestError:
        print("refused")
"""
    pinned = {*runtime._PORTABLE_ENVIRONMENT, *runtime._THREADS_ENVIRONMENT}
    clean = {name: value for name, value in os.environ.items() if name not in pinned}
    done = subprocess.run(
        [sys.executable, "-c", begin + program],
        env={**clean, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def test_portable_pins_torch_to_the_common_floor() -> None:
    program = "pin('portable'); import torch; print(torch.backends.cpu.get_cpu_capability(), 'torch' in sys.modules)"
    assert pin_in_a_process(program) == ["pinned", "AVX2", "True"]


def test_portable_pins_numpys_products_to_the_common_floor() -> None:
    program = """
import numpy
from threadpoolctl import threadpool_info
for library in threadpool_info():
    print(library["internal_api"], library["architecture"], library["num_threads"])
"""
    assert pin_in_a_process("pin('portable')" + program) == ["pinned", "openblas", "Haswell", "1"]


@pytest.mark.parametrize("kind", ["machine", "portable", "off"])
def test_threads_wait_briefly_and_numpy_starts_none(kind: str) -> None:
    program = f"pin('{kind}'); print(*(os.environ[name] for name in ('GOMP_SPINCOUNT', 'OPENBLAS_NUM_THREADS')))"
    assert pin_in_a_process(program) == ["pinned", "1000", "1"]
    assert pin_in_a_process(program, GOMP_SPINCOUNT="5", OPENBLAS_NUM_THREADS="2") == ["pinned", "5", "2"]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_portable_is_refused_once_a_library_is_loaded_with_another_instruction_set(library: str) -> None:
    # A module of that name is enough to tell: torch itself takes seconds.
    loaded = f"sys.modules['{library}'] = sys\n"
    assert pin_in_a_process(loaded + "pin('portable'); pin('machine'); pin('off')") == ["refused", "pinned", "pinned"]
    environment = runtime._PORTABLE_ENVIRONMENT
    assert pin_in_a_process(loaded + "pin('portable')", **environment) == ["pinned"]


def test_only_portable_pins() -> None:
    program = "pin('machine'); pin('off'); print(os.environ.get('ATEN_CPU_CAPABILITY'))"
    assert pin_in_a_process(program) == ["pinned", "pinned", "None"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_program_where_it_stands(stop: StopSignal, number: signal.Signals) -> None:
    with pytest.raises(StopRequested, match="interrupted"):
        os.kill(os.getpid(), number)
    assert stop.status == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_deferred_block_is_told_when_asked(stop: StopSignal, number: signal.Signals) -> None:
    done = []
    with pytest.raises(StopRequested, match="interrupted"), stop.deferred():
        os.kill(os.getpid(), number)
        done.append("the step")
        stop.check()
    assert done == ["the step"]


def test_after_a_deferred_block_signals_stop_at_once_again(stop: StopSignal) -> None:
    with stop.deferred():
        pass
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), signal.SIGTERM)


def test_no_library_can_swallow_a_stop() -> None:
    assert not issubclass(StopRequested, Exception)


def test_a_deadline_stops_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(runtime.time, "monotonic", lambda: now)
    stop = StopSignal(deadline_seconds=5)
    now = 104.9
    stop.check()
    assert stop.status is None
    now = 105.1
    with pytest.raises(StopRequested, match="stopped_at_deadline"):
        stop.check()


def test_without_deadline_or_signal_nothing_stops() -> None:
    StopSignal(deadline_seconds=None).check()
