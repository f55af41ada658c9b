"""Which weights move, how far, and that a run resumes from its state."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from src.training.optimizer.optimizer import Optimizer
from src.training.optimizer.schedule import Schedule

TOKENS, WIDTH = 10, 4


class Classifier(torch.nn.Module):
    """As much of a model of transformers as the optimizer asks for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(TOKENS, WIDTH)
        self.dense = torch.nn.Linear(WIDTH, WIDTH)
        self.LayerNorm = torch.nn.LayerNorm(WIDTH)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.after_embedding(self.embedding(ids))

    def after_embedding(self, embedded: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(embedded.mean(1))).pow(3).sum()


def optimizer_of(
    model: Classifier,
    *,
    steps: int,
    peak: float = 0.01,
    kind: str = "linear",
    warmup_ratio: float = 0.0,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    processes: int = 1,
) -> Optimizer:
    schedule = Schedule(kind=kind, peak=peak, warmup_ratio=warmup_ratio, steps=steps)
    return Optimizer(
        model,
        schedule,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        processes=processes,
        max_token_ids=TOKENS,
    )


def batch(step: int) -> torch.Tensor:
    """Few token ids of many; the last one is never read."""
    return torch.tensor([[step % 9, (step * step) % 9, 2]])


def take(model: Classifier, optimizer: Optimizer, steps: Sequence[int], *, by_rows: bool = False) -> list[float]:
    """Takes steps as a process that trains alone does; returns their learning rates."""
    rates = []
    for step in steps:
        ids = batch(step)
        token_ids = np.unique(ids.numpy())
        optimizer.catch_up(token_ids, step=step)
        rows = optimizer.rows(token_ids) if by_rows else None
        if rows is None:
            model(ids).backward()
        else:
            model.after_embedding(rows[torch.from_numpy(np.searchsorted(token_ids, ids.numpy()))]).backward()
        optimizer.publish_gradients(token_ids, None if rows is None else rows.grad)
        optimizer.reduce_gradients(token_ids)
        rates.append(optimizer.step(step))
    return rates


def train(model: Classifier, *, steps: int, by_rows: bool = False, **numbers: Any) -> Optimizer:
    optimizer = optimizer_of(model, steps=steps, **numbers)
    take(model, optimizer, range(steps), by_rows=by_rows)
    optimizer.catch_up_all(done=steps)
    return optimizer


def copies(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_neither_biases_nor_norms_decay() -> None:
    model = Classifier()
    before = copies(model)
    # With a gradient of 0, decay alone moves a weight.
    train(model, steps=1, weight_decay=0.5, peak=0.1, max_grad_norm=1e-30, kind="constant")
    kept = {name for name, weight in model.named_parameters() if torch.allclose(weight, before[name], atol=1e-4)}
    assert kept == {"dense.bias", "LayerNorm.weight", "LayerNorm.bias"}
    assert torch.allclose(model.embedding.weight, before["embedding.weight"] * 0.95, atol=1e-4)


def dense_adamw(model: Classifier, *, steps: int, max_grad_norm: float) -> None:
    """Trains by torch's own optimizer, as transformers' Trainer does."""
    groups = [{"params": [weight], "weight_decay": 0.01 * ("bias" not in name and "Norm" not in name)}
              for name, weight in model.named_parameters()]  # fmt: skip
    dense = torch.optim.AdamW(groups)
    schedule = Schedule(kind="linear", peak=0.01, warmup_ratio=0.0, steps=steps)
    for step in range(steps):
        model(batch(step)).backward()
        if max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        for group in dense.param_groups:
            group["lr"] = schedule(step)
        dense.step()
        dense.zero_grad()


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1])
def test_training_goes_where_dense_adamw_with_clipping_goes(max_grad_norm: float, by_rows: bool) -> None:
    ours, wanted = Classifier(), Classifier()
    train(ours, steps=30, by_rows=by_rows, max_grad_norm=max_grad_norm)
    dense_adamw(wanted, steps=30, max_grad_norm=max_grad_norm)
    for mine, exact in zip(ours.parameters(), wanted.parameters(), strict=True):
        assert torch.allclose(mine, exact, atol=5e-5)


def test_a_step_returns_its_learning_rate() -> None:
    model = Classifier()
    rates = take(model, optimizer_of(model, steps=4, peak=0.1, warmup_ratio=0.5), range(4))
    schedule = Schedule(kind="linear", peak=0.1, warmup_ratio=0.5, steps=4)
    assert rates == [schedule(step) for step in range(4)]


def test_a_run_resumes_from_its_state_to_the_same_bits() -> None:
    whole, first_half = Classifier(), Classifier()
    train(whole, steps=8)
    first = optimizer_of(first_half, steps=8)
    take(first_half, first, range(4))
    # As after a restart: nothing is left but the weights and the state.
    second_half = Classifier()
    second = optimizer_of(second_half, steps=8)
    second_half.load_state_dict(first_half.state_dict())
    second.load_state_dict(first.state_dict())
    take(second_half, second, range(4, 8))
    second.catch_up_all(done=8)
    for one, other in zip(whole.parameters(), second_half.parameters(), strict=True):
        assert torch.equal(one, other)


def test_frozen_weights_are_left_alone() -> None:
    model = Classifier()
    model.embedding.weight.requires_grad = False
    model.dense.weight.requires_grad = False
    before = copies(model)
    train(model, steps=3, peak=0.1)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"dense.bias", "LayerNorm.weight", "LayerNorm.bias"}


def test_the_model_gets_weights_of_its_own_back() -> None:
    model = Classifier()
    optimizer = train(model, steps=2, peak=0.1)
    trained = copies(model)
    optimizer.release()
    optimizer.flat.values.zero_()
    assert optimizer.embedding is not None
    for name, weight in model.named_parameters():
        assert torch.equal(weight, trained[name])
        assert weight.data_ptr() != optimizer.flat.values.data_ptr()


class Share:
    """What one process does in each part of a step. Here all are in this one: each with its view of what is shared."""

    def __init__(self, rank: int, *, of: int, model: Classifier, optimizer: Optimizer) -> None:
        self.of, self.model, self.optimizer = of, model, copy.copy(optimizer)
        self.optimizer.take_rank(rank)

    def prepare(self, step: int) -> None:
        self.embedding = np.unique(batch(step).numpy())
        self.optimizer.catch_up(self.embedding, step=step)

    def gradients(self, step: int) -> None:
        (self.model(batch(step)) / self.of).backward()
        self.optimizer.publish_gradients(self.embedding, None)

    def reduce_gradients(self) -> None:
        self.optimizer.reduce_gradients(self.embedding)

    def update(self, step: int) -> None:
        self.optimizer.step(step)

    def catch_up_all(self, done: int) -> None:
        self.optimizer.catch_up_all(done=done)


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_processes_make_up_the_whole(processes: int) -> None:
    alone, shared = Classifier(), Classifier()
    train(alone, steps=20, max_grad_norm=0.5)
    optimizer = optimizer_of(shared, steps=20, max_grad_norm=0.5, processes=processes)
    shares = [Share(rank, of=processes, model=shared, optimizer=optimizer) for rank in range(processes)]
    for step in range(20):
        for part, arguments in (
            ("prepare", (step,)),
            ("gradients", (step,)),
            ("reduce_gradients", ()),
            ("update", (step,)),
        ):
            for share in shares:
                getattr(share, part)(*arguments)
    for share in shares:
        share.catch_up_all(20)
    for one, other in zip(alone.parameters(), shared.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_frozen_embedding_needs_no_state() -> None:
    model = Classifier()
    model.embedding.weight.requires_grad = False
    optimizer = train(model, steps=2, peak=0.1)
    assert optimizer.embedding is None
    assert optimizer.state_dict()["embedding"] == {}
    optimizer.release()
