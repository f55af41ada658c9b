"""Linear layers, with and without LoRA, by numpy's OpenBLAS and with gradients of only what is trained.

A language model spends its time in products with frozen weights. On AMD's CPUs torch's MKL multiplies them at half of
OpenBLAS's speed, at a third where it has to be bit-identical on every CPU (products.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from src.training.fused.bfloat16 import Bfloat16Weight
from src.training.fused.products import array


class Linear(torch.autograd.Function):
    """x W^T + b."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Computes it. inputs: [..., in]; weight: [out, in]; bias: [out]. Returns [..., out]."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        out = torch.from_numpy(array(flat) @ array(weight).T)
        if bias is not None:
            out += bias
        needs_weight = ctx.needs_input_grad[1]
        ctx.save_for_backward(weight, flat if needs_weight else None)
        ctx.shape = inputs.shape
        return out.view(*inputs.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns gradients of inputs, weight and bias."""
        weight, flat = ctx.saved_tensors
        by = gradient.reshape(-1, len(weight))
        d_inputs = d_weight = d_bias = None
        if ctx.needs_input_grad[0]:
            d_inputs = torch.from_numpy(array(by) @ array(weight)).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            d_weight = torch.from_numpy(array(by).T @ array(flat))
        if ctx.needs_input_grad[2]:
            d_bias = by.sum(0)
        return d_inputs, d_weight, d_bias


class FrozenWeight(Protocol):
    """A weight W, [out, in], that is not trained."""

    def operand(self, values: np.ndarray) -> Any:
        """Returns what the products take in place of a matrix of float32."""

    def forward(self, inputs: Any) -> np.ndarray:
        """Returns x W^T, float32 [rows, out]. inputs: the operand of x, [rows, in]."""

    def backward(self, gradient: Any) -> np.ndarray:
        """Returns g W, float32 [rows, in]. gradient: the operand of g, [rows, out]."""


@dataclass(frozen=True)
class Float32Weight:
    """See FrozenWeight."""

    values: torch.Tensor

    def operand(self, values: np.ndarray) -> np.ndarray:
        """See FrozenWeight.operand."""
        return values

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """See FrozenWeight.forward."""
        return inputs @ array(self.values).T

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """See FrozenWeight.backward."""
        return gradient @ array(self.values)


@dataclass(frozen=True, kw_only=True)
class Projection:
    """x W^T + b + s (x A^T) B^T, or without the last term: W and b are frozen (Hu et al. 2021, arXiv:2106.09685).

    Attributes:
        weight: W.
        bias: b, [out].
        trained: A, [r, in], and B, [out, r], or nothing.
        scale: s.
    """

    weight: FrozenWeight
    bias: torch.Tensor | None
    trained: tuple[torch.Tensor, ...] = ()
    scale: float = 1.0

    def forward(self, inputs: np.ndarray, operand: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the result, [rows, out], and s x A^T, [rows, r], for the gradient.

        Args:
            inputs: x, [rows, in].
            operand: of the weight for x, if it is there already.
        """
        out, low = self.weight.forward(self.weight.operand(inputs) if operand is None else operand), None
        if self.trained:
            down, up = map(array, self.trained)
            low = (inputs @ down.T) * np.float32(self.scale)
            out += low @ up.T
        if self.bias is not None:
            out += array(self.bias)
        return out, low

    def backward(
        self, gradient: np.ndarray, inputs: np.ndarray, low: np.ndarray | None, *, needs_input: bool = True
    ) -> tuple[Any, ...]:
        """Returns the gradients of the inputs, an array, and of A and B, tensors; inputs and low as of `forward`."""
        d_inputs = self.weight.backward(self.weight.operand(gradient)) if needs_input else None
        if low is None:
            return (d_inputs,)
        down, up = map(array, self.trained)
        d_low = (gradient @ up) * np.float32(self.scale)
        if d_inputs is not None:
            d_inputs += d_low @ down
        return d_inputs, torch.from_numpy(d_low.T @ inputs), torch.from_numpy(gradient.T @ low)


def forward_all(parts: Sequence[Projection], inputs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Returns what Projection.forward does, of several of one dtype with the same inputs, which are cast once."""
    operand = parts[0].weight.operand(inputs)
    return [part.forward(inputs, operand) for part in parts]


class LoraLinear(torch.autograd.Function):
    """A projection, with an adapter or without."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, part: Projection, *trained: torch.Tensor) -> torch.Tensor:
        """Computes it. inputs: [..., in]; trained: part.trained, for autograd. Returns [..., out]."""
        del trained
        flat = array(inputs.reshape(-1, inputs.shape[-1]))
        out, low = part.forward(flat)
        ctx.part, ctx.shape, ctx.saved = part, inputs.shape, (None if low is None else flat, low)
        return torch.from_numpy(out).view(*inputs.shape[:-1], out.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Returns gradients of inputs, A and B."""
        by = array(gradient.reshape(-1, gradient.shape[-1]))
        d_flat, *of_trained = ctx.part.backward(by, *ctx.saved, needs_input=ctx.needs_input_grad[0])
        return None if d_flat is None else torch.from_numpy(d_flat).view(ctx.shape), None, *of_trained


def fuse_linear_layers(model: Any, *, bf16: bool = False) -> None:
    """Makes the linear layers of a model on a CPU, and peft's around them, compute by the functions above.

    Weights, names and the state dict stay as they are. Layers of other kinds (GPT-2's Conv1D, quantised ones, several
    adapters) keep their own code.

    Args:
        model: of transformers, or peft's around it.
        bf16: whether layers that are frozen, in a model in training mode, multiply in bfloat16.
    """
    for module in model.modules():
        if _is_lora(module):
            module.forward = partial(_lora_forward, module)
        elif _is_linear(module):
            module.forward = partial(_linear_forward, module)
    if bf16:
        for layer in frozen_layers(model):
            layer.bfloat16_weight = Bfloat16Weight(layer.weight)


def free_bfloat16_weights(model: Any) -> None:
    """Gives the memory of the rounded weights back: layers multiply in float32 again."""
    for layer in model.modules():
        vars(layer).pop("bfloat16_weight", None)


def frozen_layers(model: Any) -> list[Any]:
    """Returns the linear layers, on a CPU, that are not trained."""
    return [module for module in model.modules() if _is_linear(module) and _is_frozen(module)]


def _is_linear(module: Any) -> bool:
    return type(module) is torch.nn.Linear and _is_plain(module.weight)


def _is_frozen(module: Any) -> bool:
    return not any(weight.requires_grad for weight in module.parameters())


def _is_plain(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def _is_lora(module: Any) -> bool:
    """Whether a module is peft's LoRA around a linear layer, with one adapter of the plain kind."""
    base: Any = getattr(module, "base_layer", None)
    if not _is_linear(base) or not hasattr(module, "lora_A"):
        return False
    return list(module.lora_A) == ["default"] and not any(module.use_dora.values()) and not base.weight.requires_grad


def has_dropout(module: Any) -> bool:
    """Whether a layer that `projection` knows drops inputs of its adapter while it is trained."""
    return _is_lora(module) and type(module.lora_dropout["default"]) is not torch.nn.Identity


def known_projection(module: Any) -> Projection:
    """Returns the projection of a module that is known to have one."""
    part = projection(module)
    assert part is not None
    return part


def projection(module: Any) -> Projection | None:
    """Returns what a linear layer, or peft's around one, computes as it is now; None: it is of another kind.

    Dropout is left out: see `has_dropout`.
    """
    if not _is_lora(module):
        return Projection(weight=_weight(module), bias=module.bias) if _is_linear(module) else None
    part = Projection(weight=_weight(module.base_layer), bias=module.base_layer.bias)
    if module.disable_adapters or module.merged or _adds_nothing(module):
        return part
    trained = (module.lora_A["default"].weight, module.lora_B["default"].weight)
    return replace(part, trained=trained, scale=module.scaling["default"])


def _adds_nothing(module: Any) -> bool:
    """Whether an adapter is still the one that training begins with, and needs no gradient."""
    return not torch.is_grad_enabled() and not module.lora_B["default"].weight.any()


def _weight(layer: Any) -> FrozenWeight:
    # What is scored and saved is the model of float32.
    rounded = vars(layer).get("bfloat16_weight") if layer.training else None
    return rounded or Float32Weight(layer.weight)


def _lora_forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    part = known_projection(module)
    dropped = module.lora_dropout["default"](inputs) if part.trained else inputs
    if dropped is inputs:
        return LoraLinear.apply(inputs, part, *part.trained)
    down, up = part.trained
    narrow = Linear.apply(dropped, down, None)
    return LoraLinear.apply(inputs, replace(part, trained=())) + Linear.apply(narrow, up, None) * part.scale


def _linear_forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    if _is_frozen(module):
        return LoraLinear.apply(inputs, known_projection(module))
    return Linear.apply(inputs, module.weight, module.bias)
