"""The fused encoders against transformers' own: parts, values and gradients."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from src.training.data.batches import Batch
from src.training.fused.dropout import DropoutMasks
from src.training.fused.encoder import encoder_parts
from src.training.fused.registry import FusedModel, fuse
from src.training.optimizer.gradient_places import gradient_place, set_gradient_place
from src.training.testing.random_classifiers import KINDS, PAD, VOCABULARY, build

torch.set_num_threads(1)

# Rows and tokens: the usual, odd ones, one row, one token, and both.
SIZES = [(4, 8), (3, 7), (1, 5), (5, 1), (1, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_hold_every_weight_but_the_heads_once(kind: str) -> None:
    model = build(kind, dropout=0.2)
    parts = encoder_parts(model)
    assert parts is not None
    modules = [
        parts.embeddings,
        *(module for layer in parts.layers for module in (*layer.attention, *layer.feed_forward)),
    ]
    weights = [id(weight) for module in modules for weight in module.parameters()]
    encoder = getattr(model, kind)
    heads = {id(weight) for name, weight in encoder.named_parameters() if name.startswith("pooler")}
    assert sorted(weights) == sorted({id(weight) for weight in encoder.parameters()} - heads)


@pytest.mark.parametrize(("kind", "of_output"), [("bert", 0.2), ("roberta", 0.2), ("distilbert", 0.0)])
def test_the_parts_have_the_models_own_dropout(kind: str, of_output: float) -> None:
    parts = encoder_parts(build(kind, dropout=0.2))
    assert parts is not None
    assert parts.dropout == 0.2
    assert [layer.dropout for layer in parts.layers] == [(0.1, of_output, 0.2)] * 2


def batch_of(rows: int, tokens: int, *, padded: bool = False, types: bool = False) -> Batch:
    """A batch as EncodedExamples.batch makes it: each row shorter than the one before, if padded."""
    ids = torch.randint(PAD + 1, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids}
    if padded:
        mask = torch.arange(tokens) < torch.arange(tokens, tokens - rows, -1).clamp(min=1)[:, None]
        batch = {"input_ids": ids.where(mask, PAD), "attention_mask": mask.long()}
    if types:
        batch["token_type_ids"] = (torch.arange(tokens) >= tokens // 2).long().expand(rows, -1).contiguous()
    return batch


def fused_of(model: Any) -> FusedModel:
    fused = fuse(model)
    assert fused is not None
    return fused


def gradients(model: Any, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Goes back; takes the gradients out of the model. A weight without one has zeros."""
    labels = torch.arange(len(logits)) % logits.shape[1]
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    taken = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in model.named_parameters()
    }
    model.zero_grad()
    return taken


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-5), name


def assert_agrees(model: Any, batch: Batch) -> None:
    fused = fused_of(model)
    mine, own = fused(batch), model(**batch).logits
    assert torch.allclose(mine, own, atol=1e-5)
    theirs = gradients(model, own)
    assert sum(bool(gradient.any()) for gradient in theirs.values()) > len(theirs) / 2
    assert_same(gradients(model, mine), theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_all_gradients_are_the_models_own(kind: str, padded: bool, size: tuple[int, int]) -> None:
    assert_agrees(build(kind), batch_of(*size, padded=padded))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_layers_and_one_output(kind: str, layers: int) -> None:
    model = build(kind, layers=layers, labels=1)
    batch = batch_of(3, 7, padded=True)
    fused = fused_of(model)
    assert torch.allclose(fused(batch), model(**batch).logits, atol=1e-5)
    assert_agrees(build(kind, layers=layers), batch)


@pytest.mark.parametrize("passes", [1, 2])
def test_matrices_have_their_gradients_where_the_optimizer_wants_them(passes: int) -> None:
    model, batch = build("bert"), batch_of(3, 7)
    fused = fused_of(model)
    labels = torch.arange(3) % 2
    found = []
    for places in (False, True):
        model.zero_grad()
        inside = [weight for name, weight in model.named_parameters() if "encoder" in name and weight.dim() == 2]
        for weight in inside if places else ():
            set_gradient_place(weight, torch.full_like(weight, torch.nan))
        for _ in range(passes):
            torch.nn.functional.cross_entropy(fused(batch), labels).backward()
        found.append([weight.grad.clone() for weight in inside if weight.grad is not None])
    assert len(found[0]) == len(inside) == 12
    for weight, anywhere, in_place in zip(inside, *found, strict=True):
        assert torch.equal(anywhere, in_place)
        assert weight.grad is not None and gradient_place(weight) is None
        place = weight.gradient_place
        assert weight.grad.data_ptr() == place.data_ptr()


@pytest.mark.parametrize("padded", [False, True])
def test_token_types_tell_the_texts_of_a_pair_apart(padded: bool) -> None:
    model, batch = build("bert"), batch_of(3, 7, padded=padded, types=True)
    assert_agrees(model, batch)
    alike = {name: values for name, values in batch.items() if name != "token_type_ids"}
    fused = fused_of(model)
    assert not torch.allclose(fused(batch), fused(alike), atol=1e-3)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_training_logits_are_the_models_own(kind: str, implementation: str) -> None:
    model = build(kind, dropout=0.5)
    model.set_attn_implementation(implementation)
    fused, batch = fused_of(model), batch_of(4, 9, padded=True)
    model.eval()
    with torch.inference_mode():
        assert torch.allclose(fused(batch), model(**batch).logits, atol=1e-5)


class RecordedMasks(DropoutMasks):
    """Keeps what it hands out."""

    def __init__(self) -> None:
        super().__init__(seed=3, step=4, process=0)
        self.drawn: list[tuple[float, torch.Tensor]] = []

    def draw(self, shape: Sequence[int], probability: float) -> torch.Tensor | None:
        mask = super().draw(shape, probability)
        if mask is not None:
            self.drawn.append((probability, mask))
        return mask


def use_masks(monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[float, torch.Tensor]]) -> collections.deque[Any]:
    """Makes transformers' dropout use masks, one a call; returns those that are left."""
    left = collections.deque(drawn)

    def dropout(values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        del inplace
        assert training
        if not p:
            return values
        probability, mask = left.popleft()
        assert probability == p
        # Of the last layer only the first token has a mask: nobody reads the others.
        whole = torch.ones_like(values)
        if mask.numel() == values.numel():
            whole = mask.view_as(values)
        elif values.dim() == 4:
            whole[:, :, :1] = mask
        else:
            whole[:, :1] = mask.view(len(values), 1, -1)
        return values * whole

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    return left


@pytest.mark.parametrize(("kind", "masks_a_layer"), [("bert", 3), ("roberta", 3), ("distilbert", 2)])
def test_with_the_same_masks_dropout_gives_the_models_own_gradients(
    kind: str, masks_a_layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build(kind, dropout=0.4), batch_of(3, 7, padded=True)
    masks = RecordedMasks()
    mine = fused_of(model)(batch, masks=masks)
    assert len(masks.drawn) == 1 + 2 * masks_a_layer
    ours = gradients(model, mine)
    left = use_masks(monkeypatch, masks.drawn)
    own = model(**batch).logits
    assert not left
    assert torch.allclose(mine, own, atol=1e-5)
    assert_same(ours, gradients(model, own))


def test_dropout_is_that_of_the_step() -> None:
    model, batch = build("bert", dropout=0.4), batch_of(3, 7)
    fused = fused_of(model)
    first, again, other = (fused(batch, masks=DropoutMasks(seed=1, step=step, process=0)) for step in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)
    assert not torch.allclose(first, fused(batch), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_the_words_do_as_well_as_all(kind: str) -> None:
    model, batch = build(kind), batch_of(3, 7, padded=True)
    fused, table = fused_of(model), model.get_input_embeddings().weight
    whole = fused(batch)
    all_words = gradients(model, whole)
    embedding_rows, numbers = batch["input_ids"].unique(return_inverse=True)
    rows = table.detach()[embedding_rows].requires_grad_()
    by_rows = fused({**batch, "input_ids": numbers}, embedding_rows=rows)
    assert torch.equal(by_rows, whole)
    of_others = gradients(model, by_rows)
    [name] = [name for name, weight in model.named_parameters() if weight is table]
    assert not of_others.pop(name).any()
    wanted = all_words.pop(name)
    assert rows.grad is not None
    assert torch.equal(rows.grad, wanted[embedding_rows])
    for other, gradient in all_words.items():
        assert torch.equal(of_others[other], gradient)


def test_asking_for_it_changes_nothing_in_the_model() -> None:
    model = build("bert", dropout=0.4)
    before = [weight.detach().clone() for weight in model.parameters()]
    state = torch.random.get_rng_state()
    fuse(model)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    for weight, kept in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, kept) and weight.grad is None
    fuse(model.eval())
    assert not model.training
