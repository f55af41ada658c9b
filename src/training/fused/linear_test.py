"""Linear layers give torch's values and gradients, and those with LoRA give peft's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from src.cli.errors import MachineError
from src.training.fused import bfloat16
from src.training.fused.bfloat16 import Bfloat16Weight
from src.training.fused.linear import Linear, free_bfloat16_weights, frozen_layers, fuse_linear_layers, projection

torch.set_num_threads(1)

WIDE, NARROW = 24, 10


def close(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> None:
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, float(theirs.detach().abs().max())))


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (4,), (2, 3, 4)])
@pytest.mark.parametrize(
    "trained", [(True, True, True), (True, False, False), (False, True, False), (False, True, None)]
)
def test_values_and_gradients_are_torchs(shape: tuple[int, ...], trained: tuple[bool, bool, bool | None]) -> None:
    """trained: inputs, weight, bias; None: there is no bias."""
    torch.manual_seed(0)
    drawn = [torch.randn(*shape, WIDE), torch.randn(NARROW, WIDE), torch.randn(NARROW)]
    results = []
    for layer in (Linear.apply, functional.linear):
        tensors: list[Any] = [
            None if needs is None else tensor.clone().requires_grad_(needs)
            for tensor, needs in zip(drawn, trained, strict=True)
        ]
        out: Any = layer(*tensors)
        # Not contiguous, as gradients of transposed outputs are.
        out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape[::-1]).permute(*range(out.ndim)[::-1]))
        results.append([out, *(None if tensor is None else tensor.grad for tensor in tensors)])
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


class Layers(torch.nn.Module):
    """Two layers, with a bias and without."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(WIDE, NARROW)
        self.second = torch.nn.Linear(NARROW, WIDE, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Both, one after the other."""
        out: torch.Tensor = self.second(torch.tanh(self.first(inputs)))
        return out


def adapted(**settings: Any) -> tuple[Any, Any]:
    """Returns peft's model, and a fused copy of it."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["first", "second"], **settings)
    theirs: Any = get_peft_model(Layers(), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ours = copy.deepcopy(theirs)
    fuse_linear_layers(ours)
    return ours, theirs


def run(ours: Any, theirs: Any) -> tuple[list[Any], list[torch.Tensor]]:
    """Runs both forward and back; returns their outputs and inputs."""
    inputs = [torch.linspace(-1, 1, 6 * WIDE).view(2, 3, WIDE).requires_grad_() for _ in range(2)]
    outs = []
    for model, given in zip((ours, theirs), inputs, strict=True):
        torch.manual_seed(5)
        outs.append(model(given))
        outs[-1].square().sum().backward()
    return outs, inputs


def assert_same(ours: Any, theirs: Any) -> None:
    outs, inputs = run(ours, theirs)
    close(*outs)
    close(inputs[0].grad, inputs[1].grad)
    for (name, mine), (other, its) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        close(mine.grad, its.grad)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_lora_gives_pefts_values_and_gradients(dropout: float) -> None:
    ours, theirs = adapted(lora_dropout=dropout)
    # With dropout the same masks are drawn.
    assert_same(ours, theirs)
    trained = [parameter for parameter in ours.parameters() if parameter.grad is not None]
    assert len(trained) == 4 and all(parameter.grad.any() for parameter in trained)


@pytest.mark.parametrize("settings", [{}, {"lora_dropout": 0.4}, {"use_rslora": True}])
def test_in_evaluation_disabled_and_merged_they_are_pefts_too(settings: dict[str, Any]) -> None:
    ours, theirs = adapted(**settings)
    ours.eval(), theirs.eval()
    assert_same(ours, theirs)
    inputs = torch.linspace(-1, 1, WIDE)[None]
    with ours.disable_adapter(), theirs.disable_adapter():
        close(ours(inputs), theirs(inputs))
    before = ours(inputs)
    ours.merge_adapter()
    close(ours(inputs), before)


def test_an_adapter_that_has_not_moved_is_left_out_where_nothing_is_learnt() -> None:
    model: Any = get_peft_model(Layers(), LoraConfig(target_modules=["first"]))
    module = model.base_model.model.first
    part = projection(module)
    assert part is not None and part.trained
    with torch.no_grad():
        part = projection(module)
        assert part is not None and not part.trained
        module.lora_B["default"].weight[0, 0] = 1
        part = projection(module)
        assert part is not None and part.trained


def test_a_model_that_is_trained_whole_has_all_gradients() -> None:
    torch.manual_seed(0)
    theirs = Layers()
    ours = copy.deepcopy(theirs)
    fuse_linear_layers(ours)
    assert_same(ours, theirs)
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_layers_of_other_kinds_keep_their_own_code() -> None:
    dora, _ = adapted(use_dora=True)
    layers = [torch.nn.Linear(4, 4).bfloat16(), Conv1D(4, 4), torch.nn.Bilinear(2, 2, 2)]
    model = torch.nn.Sequential(*layers)
    fuse_linear_layers(model)
    assert not any("forward" in vars(layer) for layer in [*layers, dora.base_model.model.first])
    assert "forward" in vars(adapted()[0].base_model.model.first)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_frozen_weights_are_multiplied_in_bfloat16_while_training_alone(dropout: float) -> None:
    ours, theirs = adapted(lora_dropout=dropout)
    fuse_linear_layers(ours, bf16=True)
    assert len(frozen_layers(ours)) == 2
    outs, inputs = run(ours, theirs)
    found = {name: weight.grad for name, weight in ours.named_parameters() if weight.grad is not None}
    pairs = [(outs[0], outs[1]), (inputs[0].grad, inputs[1].grad)]
    pairs += [(found[name], weight.grad) for name, weight in theirs.named_parameters() if weight.grad is not None]
    assert len(pairs) == len(found) + 2 == 6
    for rounded, exact in pairs:
        assert 1e-5 < float((rounded - exact).detach().norm() / exact.detach().norm()) < 0.02
    ours.eval(), theirs.eval()
    close(ours(inputs[0]), theirs(inputs[0]))
    free_bfloat16_weights(ours)
    ours.train(), theirs.train()
    torch.manual_seed(5)
    close(ours(inputs[0]), outs[1])


def test_weights_that_are_trained_are_never_rounded() -> None:
    whole = Layers()
    fuse_linear_layers(whole, bf16=True)
    assert not frozen_layers(whole)
    assert_same(whole, copy.deepcopy(whole))
    assert not any("bfloat16_weight" in vars(layer) for layer in whole.modules())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN")
@pytest.mark.parametrize("rows", [1, 7, 600])
def test_a_weight_that_onednn_has_laid_out_takes_any_number_of_rows(rows: int) -> None:
    # In float32: the same calls, on every CPU.
    inputs, weight = torch.randn(rows, WIDE), torch.randn(NARROW, WIDE)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, bfloat16._ROWS)
    assert packed.is_mkldnn
    close(torch.from_numpy(bfloat16._product(inputs, packed)), inputs @ weight.t())


def test_products_that_are_wrong_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bfloat16._product
    monkeypatch.setattr(bfloat16, "_product", lambda *given: right(*given) * 1.1)
    with pytest.raises(MachineError, match="leave --bf16 out"):
        Bfloat16Weight(torch.randn(NARROW, WIDE))
