"""Where a weight's gradient is to lie, known to whoever computes it: written there, it need not be copied."""

from __future__ import annotations

from typing import Any

import torch

_PLACE = "gradient_place"


def set_gradient_place(weight: torch.nn.Parameter, place: torch.Tensor | None) -> None:
    """Tells where a weight's gradient is to lie: a tensor of its shape; None: anywhere."""
    setattr(weight, _PLACE, place)


def gradient_place(weight: Any) -> torch.Tensor | None:
    """Returns where the first gradient of a backward pass is to be written; None: anywhere.

    What is there is the weight's gradient once it has one: a further micro-batch's is added to it by autograd.
    """
    return getattr(weight, _PLACE, None) if weight.grad is None else None
