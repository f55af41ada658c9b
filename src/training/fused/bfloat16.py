"""Products with a frozen weight in bfloat16, by oneDNN, which uses AMX or AVX512_BF16 where the CPU has it.

Weights are rounded and laid out for it once. Operands are bfloat16, sums float32, and a result is rounded once more:
torch has no product for CPUs that leaves it in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from src.cli.errors import MachineError

_ops: Any = torch.ops.mkldnn
# That the layout is chosen for; the products take any.
_ROWS = 512
_CHECKED_ROWS = 8
# Of the largest result. Three roundings to 8 bits make about a tenth of it.
_TOLERANCE = 0.02


class Bfloat16Weight:
    """See linear.FrozenWeight."""

    def __init__(self, values: torch.Tensor) -> None:
        """Rounds a weight, float32 [out, in].

        Raises:
            MachineError: products with it are wrong here.
        """
        exact = values.detach()
        self._right, self._left = _packed(exact), _packed(exact.t())
        # Of the weight's own rows and columns: numbers as large as they come.
        rows, columns = exact[:_CHECKED_ROWS], exact[:, :_CHECKED_ROWS].t()
        _check(self.forward(self.operand(rows.numpy())), rows @ exact.t())
        _check(self.backward(self.operand(columns.numpy())), columns @ exact)

    def operand(self, values: np.ndarray) -> torch.Tensor:
        """See FrozenWeight.operand."""
        return torch.from_numpy(values).bfloat16()

    def forward(self, inputs: torch.Tensor) -> np.ndarray:
        """See FrozenWeight.forward."""
        return _product(inputs, self._right)

    def backward(self, gradient: torch.Tensor) -> np.ndarray:
        """See FrozenWeight.backward."""
        return _product(gradient, self._left)


def _packed(weight: torch.Tensor) -> torch.Tensor:
    """Returns a weight, [columns, inner], as oneDNN wants it, or rounded alone where it cannot use it (in tests)."""
    rounded = weight.bfloat16().contiguous()
    if not _ops._is_mkldnn_bf16_supported():
        return rounded
    packed: torch.Tensor = _ops._reorder_linear_weight(rounded, _ROWS)
    return packed


def _product(left: torch.Tensor, packed: torch.Tensor) -> np.ndarray:
    if packed.is_mkldnn:
        return _ops._linear_pointwise(left, packed, None, "none", [], "").float().numpy()
    return (left @ packed.t()).float().numpy()


def _check(found: np.ndarray, exact: torch.Tensor) -> None:
    if (torch.from_numpy(found) - exact).abs().max() > _TOLERANCE * exact.abs().max():
        raise MachineError("torch multiplies bfloat16 wrongly on this CPU: leave --bf16 out")
