"""The deferred optimizer follows dense AdamW, row by row."""

from __future__ import annotations

import os

import pytest
import torch

from src.training.optimizer.deferred_adamw import DeferredAdamW

# Threads do not survive a fork.
torch.set_num_threads(1)

STEPS = 400
ROWS, WIDTH = 50, 8


def rate(step: int) -> float:
    return 1e-3 * (1 - step / STEPS)


def embedding(random: torch.Generator) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(ROWS, WIDTH, generator=random) * 0.05)


def run(seed: int, *, scale: float = 1.0, stop_at: int = STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    """Trains one embedding by each optimizer on the same random batches; returns both weights."""
    random = torch.Generator().manual_seed(seed)
    weight = embedding(random)
    dense = torch.nn.Parameter(weight.detach().clone())
    exact = torch.optim.AdamW([dense], lr=1.0, weight_decay=0.01)
    deferred = DeferredAdamW(weight, learning_rate=rate, steps=STEPS, weight_decay=0.01)
    target = torch.randn(ROWS, WIDTH, generator=random)
    for step in range(stop_at):
        # Few rows often, most rows rarely, some never.
        rows = torch.unique((torch.rand(12, generator=random) ** 3 * (ROWS - 5)).long())
        (scale * (dense[rows] - target[rows]) ** 2).sum().backward()
        for group in exact.param_groups:
            group["lr"] = rate(step)
        exact.step()
        exact.zero_grad()
        deferred.catch_up(rows, done=step)
        deferred.step(rows, 2 * scale * (weight.detach()[rows] - target[rows]), done=step)
    deferred.catch_up(torch.arange(ROWS), done=stop_at)
    return dense.detach(), weight.detach()


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("stop_at", [1, 7, STEPS])
def test_every_row_ends_where_dense_adamw_takes_it(scale: float, stop_at: int) -> None:
    exact, deferred = run(0, scale=scale, stop_at=stop_at)
    moved = (exact - run(0, stop_at=0)[0]).abs().max()
    assert (exact - deferred).abs().max() < 1e-3 * moved


def test_a_row_that_is_never_read_only_decays() -> None:
    start, end = run(1, stop_at=0)[1], run(1)[1]
    decay = torch.tensor([1 - rate(step) * 0.01 for step in range(STEPS)], dtype=torch.float64).prod().float()
    assert torch.allclose(end[-1], start[-1] * decay, rtol=1e-6)


def test_two_runs_have_the_same_bits() -> None:
    assert torch.equal(run(2)[1], run(2)[1])


def one_row_behind() -> tuple[torch.nn.Parameter, DeferredAdamW]:
    """Row 1 has momentum and has missed 6 steps."""
    weight = embedding(torch.Generator().manual_seed(3))
    deferred = DeferredAdamW(weight, learning_rate=rate, steps=STEPS, weight_decay=0.01)
    deferred.catch_up(torch.tensor([1]), done=0)
    deferred.step(torch.tensor([1]), torch.ones(1, WIDTH), done=0)
    return weight, deferred


def test_rows_that_are_not_read_stay() -> None:
    weight, deferred = one_row_behind()
    before = weight.detach().clone()
    deferred.catch_up(torch.tensor([0, 3]), done=7)
    moved = (weight.detach() != before).any(1).nonzero().flatten()
    assert moved.tolist() == [0, 3]


def test_reading_twice_moves_once() -> None:
    weight, deferred = one_row_behind()
    deferred.catch_up(torch.tensor([1]), done=7)
    once = weight.detach().clone()
    deferred.catch_up(torch.tensor([1, 2]), done=7)
    assert torch.equal(weight[1], once[1])


def test_reading_on_the_way_ends_at_the_same_place() -> None:
    (at_once, one), (by_steps, other) = one_row_behind(), one_row_behind()
    start = at_once.detach().clone()
    one.catch_up(torch.tensor([1]), done=300)
    for done in (2, 3, 50, 300):
        other.catch_up(torch.tensor([1]), done=done)
    moved = (at_once - start).abs().max()
    # What the missed moves would have decayed by: 300 steps of at most lr * weight_decay.
    assert (at_once[1] - by_steps[1]).abs().max() < 3e-3 * moved


def test_no_rows_are_no_work() -> None:
    weight, deferred = one_row_behind()
    before = weight.detach().clone()
    deferred.catch_up(torch.empty(0, dtype=torch.int64), done=7)
    deferred.step(torch.empty(0, dtype=torch.int64), torch.empty(0, WIDTH), done=7)
    assert torch.equal(weight, before)


def test_it_goes_on_from_its_state_to_the_same_bits() -> None:
    (weight, whole), (again, _) = one_row_behind(), one_row_behind()
    resumed = DeferredAdamW(again, learning_rate=rate, steps=STEPS, weight_decay=0.01)
    resumed.load_state_dict(whole.state_dict())
    for deferred in (whole, resumed):
        deferred.catch_up(torch.arange(ROWS), done=9)
    assert torch.equal(weight, again)


def test_weights_and_state_are_seen_by_processes_forked_later() -> None:
    weight, deferred = one_row_behind()
    before = weight.detach().clone()
    process = os.fork()
    if not process:
        deferred.catch_up(torch.tensor([1]), done=7)
        os._exit(0)
    os.waitpid(process, 0)
    assert not torch.equal(weight[1], before[1])
    moved = weight.detach().clone()
    # This process sees that the row is up to date.
    deferred.catch_up(torch.tensor([1]), done=7)
    assert torch.equal(weight, moved)
