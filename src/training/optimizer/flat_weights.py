"""All weights that one optimizer step walks over, end to end in memory that processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from src.training.optimizer.shared_memory import shared_zeros

# Neither biases nor the scales of a normalisation decay, as in transformers' Trainer.
_NO_DECAY = ("bias", "norm")
# Shares begin at multiples of a cache line, in numbers of 4 bytes: no two processes write into one.
_ALIGNMENT = 16


class FlatWeights:
    """A model's weights in one tensor, first those that decay; the model's own become views of it.

    Attributes:
        values: float32 [size].
        gradients: float32 [processes, size].
        decayed: how many decay.
    """

    def __init__(self, named: Sequence[tuple[str, torch.nn.Parameter]], *, processes: int) -> None:
        """Moves the weights into one tensor.

        Args:
            named: name and weight; all on one device.
            processes: that will have gradients.
        """
        plain = [any(part in name.lower() for part in _NO_DECAY) for name, _ in named]
        decaying = [weight for (_, weight), is_plain in zip(named, plain, strict=True) if not is_plain]
        self._weights = [*decaying, *(weight for (_, weight), is_plain in zip(named, plain, strict=True) if is_plain)]
        self.decayed = sum(weight.numel() for weight in decaying)
        self.size = sum(weight.numel() for weight in self._weights)
        self._device = self._weights[0].device if self._weights else torch.device("cpu")
        self.values = self.zeros(self.size)
        self.gradients = self.zeros(processes, self.size)
        start = 0
        for weight in self._weights:
            view = self.values[start : start + weight.numel()].view_as(weight)
            view.copy_(weight.detach())
            weight.data = view
            start += weight.numel()

    def zeros(self, *shape: int) -> torch.Tensor:
        """Returns zeros beside the weights; on a CPU, forked processes share them."""
        return shared_zeros(*shape) if self._device.type == "cpu" else torch.zeros(*shape, device=self._device)

    def share(self, rank: int, *, of: int) -> slice:
        """Returns the weights that a process updates."""
        cuts = [self.size * at // of // _ALIGNMENT * _ALIGNMENT for at in range(of)] + [self.size]
        return slice(cuts[rank], cuts[rank + 1])

    def publish_gradients(self, rank: int) -> None:
        """Moves the gradients that a backward pass has left to their place; a weight without one counts as 0."""
        if not self._weights:
            return
        torch.cat([_gradient(weight).reshape(-1) for weight in self._weights], out=self.gradients[rank])
        for weight in self._weights:
            weight.grad = None

    def release(self) -> None:
        """Gives the model its own copy of the weights."""
        for weight in self._weights:
            weight.data = weight.data.clone()


def _gradient(weight: Any) -> torch.Tensor:
    gradient: torch.Tensor = torch.zeros_like(weight) if weight.grad is None else weight.grad
    return gradient
