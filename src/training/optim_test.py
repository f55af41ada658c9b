"""Which weights decay, and the course of the learning rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from src.training.optim import Optimizer, learning_rate
from src.training.recipe import Recipe


def course(steps: int, **fields: Any) -> list[float]:
    recipe = Recipe(learning_rate=0.1, **fields)
    return [learning_rate(recipe, step=step, steps=steps) for step in range(steps)]


def test_linear_falls_from_the_peak_by_the_same_amount_each_step() -> None:
    assert course(4) == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_warm_up_reaches_the_peak_with_its_last_step() -> None:
    assert course(10, warmup_ratio=0.25)[:5] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.1 * 6 / 7])


def test_cosine_is_half_way_in_the_middle() -> None:
    rates = course(100, lr_scheduler_type="cosine")
    assert (rates[0], rates[50]) == pytest.approx((0.1, 0.05))
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 1e-4


def test_constant_stays_after_its_warm_up() -> None:
    assert course(4, lr_scheduler_type="constant", warmup_ratio=0.5) == pytest.approx([0.05, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
def test_every_step_learns_something_and_never_above_the_peak(kind: str, warmup: float) -> None:
    for steps in (1, 2, 7, 100):
        assert all(0 < rate <= 0.1 + 1e-12 for rate in course(steps, lr_scheduler_type=kind, warmup_ratio=warmup))


@pytest.mark.parametrize(("kind", "make"), [("linear", "linear"), ("cosine", "cosine")])
def test_the_course_is_that_of_transformers(kind: str, make: str) -> None:
    import transformers

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = getattr(transformers, f"get_{make}_schedule_with_warmup")
    scheduler = schedule(optimizer, num_warmup_steps=0, num_training_steps=20)
    wanted = []
    for _ in range(20):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert course(20, lr_scheduler_type=kind) == pytest.approx(wanted)


class Classifier(torch.nn.Module):
    """As much of a model of transformers as the optimizer asks for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(10, 4)
        self.dense = torch.nn.Linear(4, 4)
        self.LayerNorm = torch.nn.LayerNorm(4)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(self.embedding(ids).mean(1))).pow(3).sum()


def train(model: Classifier, recipe: Recipe, *, steps: int, of: int) -> Optimizer:
    optimizer = Optimizer(model, recipe, steps=of)
    for step in range(steps):
        ids = torch.tensor([[step % 9, (step * step) % 9]])
        optimizer.read(ids)
        model(ids).backward()
        optimizer.step(step)
    optimizer.settle()
    return optimizer


def test_neither_biases_nor_norms_decay() -> None:
    model = Classifier()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    # With a gradient of 0, decay alone moves a weight.
    recipe = Recipe(weight_decay=0.5, learning_rate=0.1, max_grad_norm=1e-30, lr_scheduler_type="constant")
    train(model, recipe, steps=1, of=1)
    kept = {name for name, weight in model.named_parameters() if torch.allclose(weight, before[name], atol=1e-4)}
    assert kept == {"dense.bias", "LayerNorm.weight", "LayerNorm.bias"}
    assert torch.allclose(model.embedding.weight, before["embedding.weight"] * 0.95, atol=1e-4)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1])
def test_training_goes_where_dense_adamw_with_clipping_goes(max_grad_norm: float) -> None:
    recipe = Recipe(learning_rate=0.01, max_grad_norm=max_grad_norm, weight_decay=0.01)
    ours, wanted = Classifier(), Classifier()
    train(ours, recipe, steps=30, of=30)
    groups = [{"params": [weight], "weight_decay": 0.01 * ("bias" not in name and "Norm" not in name)}
              for name, weight in wanted.named_parameters()]  # fmt: skip
    dense = torch.optim.AdamW(groups)
    for step in range(30):
        wanted(torch.tensor([[step % 9, (step * step) % 9]])).backward()
        if max_grad_norm:
            torch.nn.utils.clip_grad_norm_(wanted.parameters(), max_grad_norm)
        for group in dense.param_groups:
            group["lr"] = learning_rate(recipe, step=step, steps=30)
        dense.step()
        dense.zero_grad()
    for mine, exact in zip(ours.parameters(), wanted.parameters(), strict=True):
        assert torch.allclose(mine, exact, atol=5e-5)


def test_a_run_goes_on_from_its_state_to_the_same_bits() -> None:
    recipe = Recipe(learning_rate=0.01)
    whole, halves = Classifier(), Classifier()
    train(whole, recipe, steps=8, of=8)
    first = Optimizer(halves, recipe, steps=8)
    for step in range(4):
        _take(halves, first, step)
    second = Optimizer(halves, recipe, steps=8)
    second.load_state_dict(first.state_dict())
    for step in range(4, 8):
        _take(halves, second, step)
    second.settle()
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(one, other)


def _take(model: Classifier, optimizer: Optimizer, step: int) -> None:
    ids = torch.tensor([[step % 9, (step * step) % 9]])
    optimizer.read(ids)
    model(ids).backward()
    optimizer.step(step)


def test_frozen_weights_are_left_alone() -> None:
    model = Classifier()
    model.embedding.weight.requires_grad = False
    model.dense.weight.requires_grad = False
    before = model.embedding.weight.clone(), model.dense.weight.clone()
    train(model, Recipe(learning_rate=0.1), steps=3, of=3)
    assert torch.equal(model.embedding.weight, before[0]) and torch.equal(model.dense.weight, before[1])
