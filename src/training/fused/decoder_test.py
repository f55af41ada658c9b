"""The fused decoder gives the values and gradients of transformers' layers under peft's adapters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from src.training.data.batches import Batch
from src.training.fused import attention, layer_cache
from src.training.fused.bfloat16 import Bfloat16Weight
from src.training.fused.causal import CachedRows, CausalForward
from src.training.fused.decoder import GrowingRows, can_fuse
from src.training.fused.linear import fuse_linear_layers

torch.set_num_threads(1)

VOCABULARY, PREFIX, LENGTHS = 50, 5, (7, 3, 11)
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True},
    "mistral": {"num_key_value_heads": 1, "sliding_window": None},
    "qwen2": {"num_key_value_heads": 4},
}


def build(kind: str = "llama", *, targets: Any = "all-linear", dropout: float = 0.0, **sizes: Any) -> Any:
    sizes = {**KINDS[kind], **sizes}
    config = AutoConfig.for_model(
        kind, vocab_size=VOCABULARY, max_position_embeddings=64, hidden_size=32, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=48, **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=7, target_modules=targets, lora_dropout=dropout)
    model: Any = get_peft_model(AutoModelForCausalLM.from_config(config), lora)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "bias" in name:
                weight.normal_(std=0.1)
            elif "norm" in name:
                weight.uniform_(0.5, 2.0)
            elif weight.ndim > 1:
                weight.mul_(3)
    return model


def batch_of(lengths: tuple[int, ...] = LENGTHS, *, prefix: int = PREFIX) -> Batch:
    longest = max(lengths)
    own = torch.arange(longest) < torch.tensor(lengths)[:, None]
    places = own.nonzero()
    targets = places[places[:, 1] % 2 == 0]
    draw = torch.Generator().manual_seed(1)
    return {
        "prefix": torch.randint(VOCABULARY, (1, prefix), generator=draw),
        "input_ids": torch.randint(VOCABULARY, own.shape, generator=draw),
        "attention_mask": torch.cat([torch.ones(len(lengths), prefix, dtype=torch.bool), own], 1).long(),
        "targets": targets,
        "labels": torch.randint(VOCABULARY, (len(targets),), generator=draw),
    }


def plain_logits(model: Any, batch: Batch) -> torch.Tensor:
    """As transformers and peft compute them: each row whole, by itself."""
    rows, found = batch["input_ids"], []
    for row, ids in enumerate(rows):
        logits = model(input_ids=torch.cat([batch["prefix"][0], ids])[None], use_cache=False).logits[0]
        found.append(logits[batch["targets"][batch["targets"][:, 0] == row, 1] + batch["prefix"].shape[1]])
    return torch.cat(found)


def loss_and_gradients(model: Any, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()))
    return {"loss": loss.detach(), **dict(zip(trained, found, strict=True))}


def assert_agrees(model: Any, batch: Batch) -> None:
    """Compares with the plain way in double precision."""
    forward = CausalForward(model)
    assert forward.is_fused
    ours = forward(batch)
    exact = copy.deepcopy(model).double()
    theirs = plain_logits(exact, batch)
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4 * float(theirs.detach().abs().max()))
    expected = loss_and_gradients(exact, theirs, batch)
    for name, gradient in loss_and_gradients(model, ours, batch).items():
        tolerance = 1e-4 * float(expected[name].abs().max())
        torch.testing.assert_close(gradient.double(), expected[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", [PREFIX, 0])
def test_values_and_gradients_are_those_of_plain_layers(kind: str, prefix: int) -> None:
    assert_agrees(build(kind), batch_of(prefix=prefix))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"], ["o_proj", "k_proj", "gate_proj"]])
def test_layers_without_an_adapter_are_frozen(targets: list[str]) -> None:
    assert_agrees(build(targets=targets), batch_of())


def test_a_row_may_be_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BLOCK", 4)
    assert_agrees(build(), batch_of(prefix=6))


def test_rows_without_padding_or_with_one_token_agree() -> None:
    batch = batch_of((4, 4))
    del batch["attention_mask"]
    assert_agrees(build(), batch)
    assert_agrees(build(), batch_of((1, 3)))


def test_disabled_adapters_add_nothing() -> None:
    model = build()
    forward, batch = CausalForward(model), batch_of()
    with torch.no_grad(), model.disable_adapter():
        ours, theirs = forward(batch), plain_logits(model, batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("settings", [{"dropout": 0.1}, {"hidden_act": "gelu"}, {"attention_dropout": 0.1}])
def test_what_the_layers_do_not_know_stays_with_transformers(settings: dict[str, Any]) -> None:
    assert can_fuse(build().get_base_model().model)
    assert not CausalForward(build(**settings)).is_fused


def test_weights_that_are_trained_stay_with_transformers() -> None:
    model = build()
    model.get_base_model().model.norm.weight.requires_grad_()
    assert not CausalForward(model).is_fused


@pytest.mark.parametrize("shared", [PREFIX, 0])
@pytest.mark.parametrize(
    ("settings", "rows_class"),
    [({}, GrowingRows), ({"kind": "mistral", "dropout": 0.5}, GrowingRows), ({"hidden_act": "gelu"}, CachedRows)],
)
@torch.inference_mode()
def test_rows_grow_as_they_would_whole(
    settings: dict[str, Any], rows_class: type, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_cache, "_ROOM", 1)
    model = build(**settings).eval()
    forward = CausalForward(model)
    draw = torch.Generator().manual_seed(3)
    begin = torch.randint(VOCABULARY, (shared,), generator=draw).tolist()
    rows = [[*begin, *torch.randint(VOCABULARY, (own,), generator=draw).tolist()] for own in (4, 1, 9)]
    growing = forward.grow(rows, shared=shared)
    assert isinstance(growing, rows_class)
    for chosen in ([0, 1, 2], [0, 1, 2], [0, 2], [0, 1], [1]):
        if len(chosen) < len(rows):
            growing.select(chosen)
        rows = [[*rows[place], len(rows[place])] for place in chosen]
        growing.extend([row[-1] for row in rows])
        for logits, row in zip(forward.logits(growing.outputs), rows, strict=True):
            expected = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_weights_that_are_trained_are_decoded_by_the_layers_all_the_same() -> None:
    model = build().merge_and_unload().eval().requires_grad_()
    forward = CausalForward(model)
    assert not forward.is_fused and isinstance(forward.grow([[1, 2]], shared=1), GrowingRows)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_loss_and_gradients_are_near_and_each_input_is_rounded_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, rounded = build(kind), batch_of(), list[tuple[int, ...]]()
    exact = loss_and_gradients(model, CausalForward(model)(batch), batch)
    fuse_linear_layers(model, bf16=True)
    forward, operand = CausalForward(model), Bfloat16Weight.operand

    def counted(self: Bfloat16Weight, values: Any) -> torch.Tensor:
        rounded.append(values.shape)
        return operand(self, values)

    monkeypatch.setattr(Bfloat16Weight, "operand", counted)
    assert forward.is_fused
    found = loss_and_gradients(model, forward(batch), batch)
    # Of 3 layers and the head; the first layer's inputs need no gradient.
    assert len(rounded) == (3 * 4 + 1) + (3 * 7 - 3 + 1)
    assert 0 < abs(float(found.pop("loss") - exact.pop("loss"))) < 1e-2
    for name, gradient in found.items():
        assert float((gradient - exact[name]).norm() / exact[name].norm()) < 0.06, name
