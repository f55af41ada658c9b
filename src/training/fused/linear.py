"""Linear layers, with and without LoRA, by numpy's OpenBLAS and with gradients of only what is trained.

A language model spends its time in products with frozen weights. On AMD's CPUs torch's MKL multiplies them at half of
OpenBLAS's speed, at a third where it has to be bit-identical on every CPU (products.py).
"""

from __future__ import annotations

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


class LoraLinear(torch.autograd.Function):
    """x W^T + b + s (x A^T) B^T with W and b frozen (Hu et al. 2021, arXiv:2106.09685)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        frozen: tuple[torch.Tensor, torch.Tensor | None],
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Computes it.

        Args:
            ctx: autograd's.
            inputs: x, [..., in].
            frozen: W [out, in] and b [out].
            down: A, [r, in].
            up: B, [out, r].
            scale: s.

        Returns:
            [..., out].
        """
        weight, bias = frozen
        flat = inputs.reshape(-1, inputs.shape[-1])
        narrow = (array(flat) @ array(down).T) * np.float32(scale)
        out = array(flat) @ array(weight).T
        out += narrow @ array(up).T
        if bias is not None:
            out += array(bias)
        ctx.save_for_backward(flat, weight, down, up, torch.from_numpy(narrow))
        ctx.scale, ctx.shape = np.float32(scale), inputs.shape
        return torch.from_numpy(out).view(*inputs.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns gradients of inputs, A and B."""
        flat, weight, down, up, narrow = (None if saved is None else array(saved) for saved in ctx.saved_tensors)
        by = array(gradient.reshape(-1, gradient.shape[-1]))
        d_narrow = (by @ up) * ctx.scale
        d_inputs = None
        if ctx.needs_input_grad[0]:
            d_flat = by @ weight
            d_flat += d_narrow @ down
            d_inputs = torch.from_numpy(d_flat).view(ctx.shape)
        return d_inputs, None, torch.from_numpy(d_narrow.T @ flat), torch.from_numpy(by.T @ narrow), None


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


def _lora_forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    base = module.base_layer
    if module.disable_adapters or module.merged:
        return Linear.apply(inputs, base.weight, base.bias)
    dropped = module.lora_dropout["default"](inputs)
    down, up, scale = module.lora_A["default"].weight, module.lora_B["default"].weight, module.scaling["default"]
    if dropped is inputs:
        return LoraLinear.apply(inputs, (base.weight, base.bias), down, up, scale)
    narrow = Linear.apply(dropped, down, None)
    return Linear.apply(inputs, base.weight, base.bias) + Linear.apply(narrow, up, None) * scale


def _linear_forward(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    return Linear.apply(inputs, module.weight, module.bias)
