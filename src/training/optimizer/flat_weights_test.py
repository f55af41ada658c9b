"""All weights in one tensor: the model keeps working on it, and gets its own back."""

from __future__ import annotations

import itertools

import pytest
import torch

from src.training.optimizer.flat_weights import FlatWeights
from src.training.optimizer.gradient_places import gradient_place


class Layers(torch.nn.Module):
    """Weights of several shapes, those that decay and those that do not in turn."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(5, 7)
        self.LayerNorm = torch.nn.LayerNorm(7)
        self.second = torch.nn.Linear(7, 3)
        self.idle = torch.nn.Linear(3, 1, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.LayerNorm(self.first(inputs)))


INPUTS = torch.linspace(-1, 1, 10).view(2, 5)


def flatten(model: torch.nn.Module, *, processes: int = 2) -> FlatWeights:
    return FlatWeights(list(model.named_parameters()), processes=processes)


def test_the_model_computes_as_before() -> None:
    model = Layers()
    before = model(INPUTS)
    flat = flatten(model)
    assert torch.equal(model(INPUTS), before)
    assert flat.size == sum(weight.numel() for weight in model.parameters()) == len(flat.values)


def test_weights_that_decay_come_first() -> None:
    model = Layers()
    flat = flatten(model)
    assert flat.decayed == 5 * 7 + 7 * 3 + 3 * 1
    flat.values[: flat.decayed] = 1
    flat.values[flat.decayed :] = 2
    values = {name: weight.unique().tolist() for name, weight in model.named_parameters()}
    assert {name for name, value in values.items() if value == [2]} == {
        "first.bias", "second.bias", "LayerNorm.weight", "LayerNorm.bias",
    }  # fmt: skip
    assert {name for name, value in values.items() if value == [1]} == {"first.weight", "second.weight", "idle.weight"}


def test_gradients_lie_where_their_weights_do() -> None:
    model, plain = Layers(), Layers()
    flat = flatten(model)
    for made in (model, plain):
        made(INPUTS).square().sum().backward()
    flat.publish_gradients(1)
    assert not flat.gradients[0].any()
    # One step of plain descent by either way.
    flat.values -= 0.1 * flat.gradients[1]
    for mine, exact in zip(model.parameters(), plain.parameters(), strict=True):
        step = 0 if exact.grad is None else 0.1 * exact.grad
        assert torch.allclose(mine, exact - step, atol=1e-7)
        assert mine.grad is None


def test_a_gradient_does_not_outlive_its_step() -> None:
    model = Layers()
    flat = flatten(model)
    model(INPUTS).square().sum().backward()
    flat.publish_gradients(0)
    flat.publish_gradients(0)
    assert not flat.gradients.any()


def test_gradients_that_lie_in_their_place_are_taken_as_they_are() -> None:
    model, plain = Layers(), Layers()
    flat = flatten(model)
    flat.take_rank(1)
    for made in (model, plain):
        made(INPUTS).square().sum().backward()
    place = gradient_place(model.idle.weight)
    assert place is not None and gradient_place(model.first.weight) is None
    model.idle.weight.grad = place.fill_(3)
    flat.publish_gradients(1)
    assert flat.gradients[1].eq(3).sum() == 3
    assert plain.first.weight.grad is not None
    first = gradient_place(model.first.weight)
    assert first is not None and torch.equal(first, plain.first.weight.grad)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_sum_of_all_gradients_is_left_with_the_first(processes: int) -> None:
    flat = flatten(Layers(), processes=processes)
    gradients = torch.randn(flat.gradients.shape, generator=torch.Generator().manual_seed(0))
    flat.gradients.copy_(gradients)
    share = slice(16, flat.size)
    squares = flat.reduce_gradients(share)
    assert torch.allclose(flat.gradients[0, share], gradients.sum(0)[share], atol=1e-6)
    assert torch.allclose(squares, gradients.sum(0)[share].square().sum())
    # Another process may not have read its share yet.
    assert torch.equal(flat.gradients[:, :16], gradients[:, :16])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_every_weight_is_in_one_share(size: int, processes: int) -> None:
    flat = FlatWeights([("a", torch.nn.Parameter(torch.zeros(size)))], processes=processes)
    shares = [flat.share(rank, of=processes) for rank in range(processes)]
    assert (shares[0].start, shares[-1].stop) == (0, size)
    for before, after in itertools.pairwise(shares):
        assert before.stop == after.start
    # No two processes write into one cache line of 64 bytes.
    assert all(share.start % 16 == 0 for share in shares)
    if size == 1000:
        assert max(share.stop - share.start for share in shares) < 1000 / processes + 32


def test_released_weights_are_kept_and_no_longer_shared() -> None:
    model = Layers()
    flat = flatten(model)
    flat.values += 1
    trained = [weight.detach().clone() for weight in model.parameters()]
    flat.release()
    flat.values.zero_()
    for weight, kept in zip(model.parameters(), trained, strict=True):
        assert torch.equal(weight, kept)


def test_a_model_with_all_weights_frozen_has_none() -> None:
    flat = FlatWeights([], processes=2)
    flat.publish_gradients(0)
    flat.release()
    assert (flat.size, flat.decayed) == (0, 0)
    assert flat.share(1, of=2) == slice(0, 0)
