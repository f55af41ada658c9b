"""Each fused layer against the same mathematics in plain torch, whose gradients are autograd's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional

from src.training.fused.dropout import DropoutMasks
from src.training.fused.layers import Attention, Embedding, FeedForward, Shape

torch.set_num_threads(1)

EPS = 1e-5
WIDTH, HEADS, INNER = 24, 3, 40
# Rows and tokens: the usual, odd ones, one row, one token, and both.
SIZES = [(4, 8), (3, 7), (1, 5), (5, 1), (1, 1)]


def random(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) / math.sqrt(shape[-1]) for shape in shapes]


def dropped(*shape: int, process: int = 0) -> torch.Tensor:
    drawn = DropoutMasks(seed=1, step=0, process=process).draw(shape, 0.3)
    assert drawn is not None
    return drawn


def assert_same(
    fused: Callable[..., torch.Tensor], plain: Callable[..., torch.Tensor], tensors: list[torch.Tensor]
) -> None:
    """Compares values, and gradients of all tensors, with those of plain torch in float64."""
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    exact = [tensor.double().requires_grad_() for tensor in tensors]
    got, wanted = fused(*ours), plain(*exact)
    assert torch.allclose(got.double(), wanted, atol=1e-5)
    [weighing] = random(9, tuple(wanted.shape))
    (got * weighing).sum().backward()
    (wanted * weighing.double()).sum().backward()
    for number, (mine, theirs) in enumerate(zip(ours, exact, strict=True)):
        assert mine.grad is not None and theirs.grad is not None, number
        assert torch.allclose(mine.grad.double(), theirs.grad, atol=1e-5), number


@dataclass(frozen=True, kw_only=True)
class Words:
    """A batch of ids, and how it is embedded."""

    ids: torch.Tensor
    kinds: torch.Tensor | None
    first: int
    mask: torch.Tensor | None

    def plain(self, embedding_rows: torch.Tensor, positions: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        *types, scale, shift = rest
        summed = embedding_rows[self.ids] + positions[self.first : self.first + self.ids.shape[1]]
        if types:
            summed = summed + types[0][torch.zeros_like(self.ids) if self.kinds is None else self.kinds]
        out = functional.layer_norm(summed, (WIDTH,), scale, shift, EPS)
        return out if self.mask is None else out * self.mask

    def fused(self, embedding_rows: torch.Tensor, positions: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        *types, scale, shift = rest
        where = (self.ids, self.first, self.kinds, EPS)
        out: torch.Tensor = Embedding.apply(
            embedding_rows, positions, types[0] if types else None, where, self.mask, scale, shift
        )
        return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("with_types", "with_kinds", "first"), [(False, False, 2), (True, False, 0), (True, True, 0)])
def test_embedding(size: tuple[int, int], masked: bool, with_types: bool, with_kinds: bool, first: int) -> None:
    # Few token ids: some are in a batch more than once, whose gradients add up; some in none, whose gradient is 0.
    ids = torch.randint(6, size, generator=torch.Generator().manual_seed(2))
    batch = Words(
        ids=ids, kinds=ids % 2 if with_kinds else None, first=first, mask=dropped(*size, WIDTH) if masked else None
    )
    shapes: list[tuple[int, ...]] = [(9, WIDTH), (12, WIDTH), *[(2, WIDTH)] * with_types, (WIDTH,), (WIDTH,)]
    assert_same(batch.fused, batch.plain, random(3, *shapes))


@dataclass(frozen=True, kw_only=True)
class Attending:
    """What attention is computed for."""

    queries: int
    bias: torch.Tensor | None
    masks: tuple[torch.Tensor | None, torch.Tensor | None]

    def plain(self, inputs: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        wq, bq, wk, bk, wv, bv, wo, bo, scale, shift = weights
        query, key, value = (
            functional.linear(inputs, weight, bias).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for weight, bias in ((wq, bq), (wk, bk), (wv, bv))
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        if self.bias is not None:
            scores = scores + self.bias
        probabilities = scores.softmax(-1)[:, :, : self.queries]
        if self.masks[0] is not None:
            probabilities = probabilities * self.masks[0]
        mixed = (probabilities @ value).transpose(1, 2).flatten(2).flatten(0, 1)
        out = functional.linear(mixed, wo, bo)
        if self.masks[1] is not None:
            out = out * self.masks[1]
        summed = out + inputs[:, : self.queries].flatten(0, 1)
        return functional.layer_norm(summed, (WIDTH,), scale, shift, EPS)

    def fused(self, inputs: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        shape = Shape(heads=HEADS, eps=EPS)
        out: torch.Tensor = Attention.apply(inputs, self.queries, self.bias, self.masks, shape, *weights)
        return out


def padding(rows: int, tokens: int) -> torch.Tensor:
    """Hides more tokens of each row than of the one before, but never the first."""
    hidden = torch.arange(tokens) >= torch.arange(tokens, tokens - rows, -1).clamp(min=1)[:, None]
    return hidden[:, None, None].float() * torch.finfo(torch.float32).min


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention(size: tuple[int, int], first_only: bool, padded: bool, masked: bool) -> None:
    rows, tokens = size
    queries = 1 if first_only else tokens
    masks = (
        (dropped(rows, HEADS, queries, tokens), dropped(rows * queries, WIDTH, process=1)) if masked else (None, None)
    )
    layer = Attending(queries=queries, bias=padding(rows, tokens) if padded else None, masks=masks)
    projections: list[tuple[int, ...]] = [(WIDTH, WIDTH), (WIDTH,)] * 4
    assert_same(layer.fused, layer.plain, random(4, (rows, tokens, WIDTH), *projections, (WIDTH,), (WIDTH,)))


def test_attention_sees_nothing_of_padding() -> None:
    inputs, *weights = random(5, (2, 6, WIDTH), *[(WIDTH, WIDTH), (WIDTH,)] * 4, (WIDTH,), (WIDTH,))
    bias = torch.zeros(2, 1, 1, 6)
    bias[..., 4:] = torch.finfo(torch.float32).min
    layer = Attending(queries=1, bias=bias, masks=(None, None))
    inputs.requires_grad_()
    before = layer.fused(inputs, *weights)
    before.sum().backward()
    assert inputs.grad is not None
    assert not inputs.grad[:, 4:].any()
    changed = inputs.detach().clone()
    changed[:, 4:] += 10
    assert torch.equal(layer.fused(changed, *weights), before)


@pytest.mark.parametrize("tokens", [1, 2, 21])
@pytest.mark.parametrize("masked", [False, True])
def test_feed_forward(tokens: int, masked: bool) -> None:
    mask = dropped(tokens, WIDTH) if masked else None

    def plain(inputs: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        w1, b1, w2, b2, scale, shift = weights
        out = functional.linear(functional.gelu(functional.linear(inputs, w1, b1)), w2, b2)
        return functional.layer_norm(inputs + (out if mask is None else out * mask), (WIDTH,), scale, shift, EPS)

    def fused(inputs: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = FeedForward.apply(inputs, mask, Shape(heads=HEADS, eps=EPS), *weights)
        return out

    shapes: list[tuple[int, ...]] = [
        (tokens, WIDTH),
        (INNER, WIDTH),
        (INNER,),
        (WIDTH, INNER),
        (WIDTH,),
        (WIDTH,),
        (WIDTH,),
    ]
    assert_same(fused, plain, random(6, *shapes))


def test_gradients_are_the_slopes_of_the_values() -> None:
    # Independent of autograd: how much the result changes with a weight, measured.
    layer = Attending(queries=1, bias=padding(2, 4), masks=(dropped(2, HEADS, 1, 4), dropped(2, WIDTH)))
    tensors = random(7, (2, 4, WIDTH), *[(WIDTH, WIDTH), (WIDTH,)] * 4, (WIDTH,), (WIDTH,))
    [weighing] = random(8, (2, WIDTH))
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    (layer.fused(*leaves) * weighing).sum().backward()
    step = 1e-2
    for at, leaf in enumerate(leaves):
        [direction] = random(10 + at, tuple(leaf.shape))
        up, down = (
            [tensor + sign * step * direction if at == other else tensor for other, tensor in enumerate(tensors)]
            for sign in (1, -1)
        )
        measured = float(((layer.fused(*up) - layer.fused(*down)) * weighing).sum()) / (2 * step)
        assert leaf.grad is not None
        assert measured == pytest.approx(float((leaf.grad * direction).sum()), rel=1e-2, abs=1e-3), at
