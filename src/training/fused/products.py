"""What the fused layers are made of: products by numpy's OpenBLAS, normalisation by torch's own kernel.

On matrices as small as bert-tiny's OpenBLAS is as fast as MKL at its best, takes strided heads as they lie, and keeps
its speed where MKL has to be bit-identical on every CPU (`portable`: 100 against 38 GFLOP/s on one Zen 4 core).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from src.training.optimizer.gradient_places import gradient_place

_ops: Any = torch.ops.aten
Mask = torch.Tensor | None


def array(tensor: torch.Tensor) -> np.ndarray:
    """Returns the values, as numpy sees them where they lie."""
    return tensor.detach().numpy()


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Returns the product of two matrices."""
    return torch.from_numpy(np.matmul(array(left), array(right)))


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Returns inputs W^T + b."""
    return product(inputs, weight.t()).add_(bias)


def weight_gradient(weight: torch.Tensor, by: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Returns the gradient of W in x W^T, where the optimizer wants it. by: gradient of the result; inputs: x."""
    place = gradient_place(weight)
    return torch.from_numpy(np.matmul(array(by).T, array(inputs), out=None if place is None else array(place)))


def masked(values: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Returns the values times a mask, if there is one."""
    return values if mask is None else values * mask


def by_head(values: torch.Tensor, *, rows: int, heads: int) -> np.ndarray:
    """Views [rows * tokens, width] as [rows, heads, tokens, width / heads]."""
    return array(values).reshape(rows, -1, heads, values.shape[1] // heads).swapaxes(1, 2)


def merged(left: np.ndarray, right: np.ndarray) -> torch.Tensor:
    """Multiplies by head and lays the heads side by side: [rows * tokens, width]."""
    rows, heads, tokens, size = *left.shape[:3], right.shape[-1]
    out = np.empty((rows, tokens, heads, size), np.float32)
    np.matmul(left, right, out=out.swapaxes(1, 2))
    return torch.from_numpy(out.reshape(rows * tokens, heads * size))


def normalise(values: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float) -> tuple[torch.Tensor, ...]:
    """Returns the normalised values, and mean and 1 / deviation for the gradient."""
    out: tuple[torch.Tensor, ...] = _ops.native_layer_norm(values, values.shape[-1:], scale, shift, eps)
    return out


def normalise_backward(gradient: torch.Tensor, values: torch.Tensor, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Returns the gradients of values, scale and shift; `saved`: mean, 1 / deviation, scale, shift."""
    out: tuple[torch.Tensor, ...] = _ops.native_layer_norm_backward(
        gradient, values, values.shape[-1:], *saved, [True, True, True]
    )
    return out
