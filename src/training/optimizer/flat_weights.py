"""All weights that one optimizer step walks over, end to end in memory that processes share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from src.training.optimizer.gradient_places import set_gradient_place
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
        for weight, view in zip(self._weights, self._views(self.values), strict=True):
            view.copy_(weight.detach())
            weight.data = view
        self._places = [self._views(gradients) for gradients in self.gradients]

    def _views(self, values: torch.Tensor) -> list[torch.Tensor]:
        parts = values.split([weight.numel() for weight in self._weights])
        return [part.view_as(weight) for part, weight in zip(parts, self._weights, strict=True)]

    def take_rank(self, rank: int) -> None:
        """Makes what computes gradients in this process put them into their place."""
        for weight, place in zip(self._weights, self._places[rank], strict=True):
            set_gradient_place(weight, place)

    def zeros(self, *shape: int) -> torch.Tensor:
        """Returns zeros beside the weights; on a CPU, forked processes share them."""
        return shared_zeros(*shape) if self._device.type == "cpu" else torch.zeros(*shape, device=self._device)

    def share(self, rank: int, *, of: int) -> slice:
        """Returns the weights that a process updates."""
        cuts = [self.size * at // of // _ALIGNMENT * _ALIGNMENT for at in range(of)] + [self.size]
        return slice(cuts[rank], cuts[rank + 1])

    def publish_gradients(self, rank: int) -> None:
        """Moves what is not there yet of a backward pass's gradients to its place; a weight without one counts as 0."""
        elsewhere: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        for weight, place in zip(self._weights, self._places[rank], strict=True):
            if weight.grad is None:
                place.zero_()
            elif weight.grad.data_ptr() != place.data_ptr():
                elsewhere.append(place)
                gradients.append(weight.grad)
            weight.grad = None
        if elsewhere:
            torch._foreach_copy_(elsewhere, gradients)

    def reduce_gradients(self, share: slice) -> torch.Tensor:
        """Sums all processes' gradients of a share of the weights into the first's; returns the sum of the squares."""
        first, *others = self.gradients[:, share]
        for other in others:
            first += other
        # In place of a gradient that nobody reads again: the pages of a new tensor cost more than the squares.
        return torch.mul(first, first, out=others[-1] if others else None).sum()

    def release(self) -> None:
        """Gives the model its own copy of the weights."""
        for weight in self._weights:
            set_gradient_place(weight, None)
            weight.data = weight.data.clone()
