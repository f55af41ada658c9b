"""Linear layers, with and without LoRA, by numpy's OpenBLAS and with gradients of only what is trained.

A language model spends its time in products with frozen weights. On AMD's CPUs torch's MKL multiplies them at half of
OpenBLAS's speed, at a third where it has to be bit-identical on every CPU (products.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

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


@dataclass(frozen=True, kw_only=True)
class Projection:
    """x W^T + b + s (x A^T) B^T, or without the last term: W and b are frozen (Hu et al. 2021, arXiv:2106.09685).

    Attributes:
        weight: W, [out, in].
        bias: b, [out].
        trained: A, [r, in], and B, [out, r], or nothing.
        scale: s.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    trained: tuple[torch.Tensor, ...] = ()
    scale: float = 1.0

    def forward(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the result, [rows, out], and s x A^T, [rows, r], for the gradient. inputs: x, [rows, in]."""
        out, low = inputs @ array(self.weight).T, None
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
        d_inputs = gradient @ array(self.weight) if needs_input else None
        if low is None:
            return (d_inputs,)
        down, up = map(array, self.trained)
        d_low = (gradient @ up) * np.float32(self.scale)
        if d_inputs is not None:
            d_inputs += d_low @ down
        return d_inputs, torch.from_numpy(d_low.T @ inputs), torch.from_numpy(gradient.T @ low)


class LoraLinear(torch.autograd.Function):
    """A projection with an adapter."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, part: Projection, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Computes it. inputs: [..., in]; down, up: part.trained, for autograd. Returns [..., out]."""
        del down, up
        flat = array(inputs.reshape(-1, inputs.shape[-1]))
        out, low = part.forward(flat)
        ctx.part, ctx.shape, ctx.saved = part, inputs.shape, (flat, low)
        return torch.from_numpy(out).view(*inputs.shape[:-1], out.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Returns gradients of inputs, A and B."""
        by = array(gradient.reshape(-1, gradient.shape[-1]))
        d_flat, *of_trained = ctx.part.backward(by, *ctx.saved, needs_input=ctx.needs_input_grad[0])
        return None if d_flat is None else torch.from_numpy(d_flat).view(ctx.shape), None, *of_trained


def fuse_linear_layers(model: Any) -> None:
    """Makes the linear layers of a model on a CPU, and peft's around them, compute by the functions above.

    Weights, names and the state dict stay as they are. Layers of other kinds (GPT-2's Conv1D, quantised ones, several
    adapters) keep their own code.
    """
    for module in model.modules():
        if _is_lora(module):
            module.forward = partial(_lora_forward, module)
        elif _is_linear(module):
            module.forward = partial(_linear_forward, module)


def _is_linear(module: Any) -> bool:
    return type(module) is torch.nn.Linear and _is_plain(module.weight)


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


def projection(module: Any) -> Projection | None:
    """Returns what a linear layer, or peft's around one, computes as it is now; None: it is of another kind.

    Dropout is left out: see `has_dropout`.
    """
    if _is_lora(module):
        weight, bias = module.base_layer.weight, module.base_layer.bias
        if module.disable_adapters or module.merged or _adds_nothing(module):
            return Projection(weight=weight, bias=bias)
        return _adapted(module)
    return Projection(weight=module.weight, bias=module.bias) if _is_linear(module) else None


def _adds_nothing(module: Any) -> bool:
    """Whether an adapter is still the one that training begins with, and needs no gradient."""
    return not torch.is_grad_enabled() and not module.lora_B["default"].weight.any()


def _adapted(module: Any) -> Projection:
    return Projection(
        weight=module.base_layer.weight,
        bias=module.base_layer.bias,
        trained=(module.lora_A["default"].weight, module.lora_B["default"].weight),
        scale=module.scaling["default"],
    )


def _lora_forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    base = module.base_layer
    if module.disable_adapters or module.merged:
        return Linear.apply(inputs, base.weight, base.bias)
    part = _adapted(module)
    down, up = part.trained
    dropped = module.lora_dropout["default"](inputs)
    if dropped is inputs:
        return LoraLinear.apply(inputs, part, down, up)
    narrow = Linear.apply(dropped, down, None)
    return Linear.apply(inputs, base.weight, base.bias) + Linear.apply(narrow, up, None) * part.scale


def _linear_forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    return Linear.apply(inputs, module.weight, module.bias)
