"""Dropout's random numbers: drawn fast, and a function of nothing but seed, step and process."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

# A probability is rounded to a multiple of this: 0.1 becomes 0.100006.
_LEVELS = 1 << 16


class DropoutMasks:
    """The masks that one process of one step's batch is multiplied by.

    A mask costs a fifth of torch's bernoulli_ (16 against 79 us for 13,312 elements on one thread): SFC64 gives 64 bits
    at once (Doty-Humphrey, PractRand), and 16 of them decide on an element. Integers only, so every machine draws the
    same.
    """

    def __init__(self, *, seed: int, step: int, process: int) -> None:
        """Starts at the first mask of a process of a step."""
        self._random = np.random.Generator(np.random.SFC64([seed, step, process]))

    def draw(self, shape: Sequence[int], probability: float) -> torch.Tensor | None:
        """Returns a mask, or None where nothing is dropped.

        Args:
            shape: of the mask.
            probability: of an element to be dropped, below 1.

        Returns:
            float32 of that shape: 0 where dropped, 1 / (1 - probability) elsewhere (Srivastava et al. 2014).
        """
        dropped = round(probability * _LEVELS)
        if not dropped:
            return None
        size = math.prod(shape)
        bits = self._random.integers(0, 2**64 - 1, endpoint=True, dtype=np.uint64, size=size // 4 + 1)
        kept = bits.view(np.uint16)[:size] >= dropped
        return torch.from_numpy(kept * np.float32(_LEVELS / (_LEVELS - dropped))).view(*shape)
