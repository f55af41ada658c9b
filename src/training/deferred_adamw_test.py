"""The deferred optimizer follows dense AdamW, row by row."""

from __future__ import annotations

import pytest
import torch

from src.training.deferred_adamw import DeferredAdamW

STEPS = 400
ROWS, WIDTH = 50, 8


def rate(step: int) -> float:
    return 1e-3 * (1 - step / STEPS)


def run(seed: int, *, scale: float = 1.0, stop_at: int = STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    """Trains one embedding by each optimizer on the same random batches; returns both weights."""
    random = torch.Generator().manual_seed(seed)
    start = torch.randn(ROWS, WIDTH, generator=random) * 0.05
    dense = torch.nn.Embedding(ROWS, WIDTH, _weight=start.clone())
    sparse = torch.nn.Embedding(ROWS, WIDTH, _weight=start.clone(), sparse=True)
    exact = torch.optim.AdamW(dense.parameters(), lr=1.0, weight_decay=0.01)
    deferred = DeferredAdamW(sparse.weight, learning_rate=rate, steps=STEPS, weight_decay=0.01)
    target = torch.randn(ROWS, WIDTH, generator=random)
    for step in range(stop_at):
        # Few rows often, most rows rarely, some never.
        ids = (torch.rand(3, 4, generator=random) ** 3 * (ROWS - 5)).long()
        deferred.read(ids)
        for embedding in (dense, sparse):
            (scale * (embedding(ids) - target[ids]) ** 2).sum().backward()
        for group in exact.param_groups:
            group["lr"] = rate(step)
        exact.step()
        exact.zero_grad()
        deferred.step(torch.ones(()))
    deferred.settle()
    return dense.weight.detach(), sparse.weight.detach()


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


def test_the_gradient_is_scaled() -> None:
    embedding = torch.nn.Embedding(2, 1, _weight=torch.zeros(2, 1), sparse=True)
    optimizer = DeferredAdamW(embedding.weight, learning_rate=rate, steps=2, weight_decay=0.0)
    embedding(torch.tensor([1])).sum().backward()
    optimizer.step(torch.zeros(()))
    assert embedding.weight[1] == 0 and embedding.weight.grad is None


def test_a_step_without_a_gradient_is_an_error() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="backward"):
        DeferredAdamW(weight, learning_rate=rate, steps=1, weight_decay=0.0).step(torch.ones(()))
