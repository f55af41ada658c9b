"""A layer's keys and values of what rows have read, for the tokens that follow: those of a shared prefix only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.training.fused.attention import Layout

_ops: Any = torch.ops.aten
# Tokens of a row that room is made for at once.
_ROOM = 32


class LayerCache:
    """Keys and values of one layer, and the attention that fills it."""

    def __init__(self, layout: Layout) -> None:
        """Starts empty, for prompts that lie so."""
        self._layout = layout
        # Keys and values: of the prefix, [heads, tokens, size], and of each row's own tokens, from the left,
        # [heads, rows, room, size].
        self._prefix: list[np.ndarray] = []
        self._own: list[np.ndarray] = []

    def attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """See Attention.attend; the tokens are the prompts'."""
        prefix, lengths = self._layout.prefix, self._layout.lengths
        self._prefix = [part[:, :prefix].copy() for part in (key, value)]
        # Zeros: what is masked counts 0 times, which of whatever lay there could be NaN.
        shape = (len(key), len(lengths), max(lengths) + _ROOM, key.shape[2])
        self._own = [np.zeros(shape, np.float32) for _ in range(2)]
        for own, part in zip(self._own, (key, value), strict=True):
            end = prefix
            for row, length in enumerate(lengths):
                begin, end = end, end + length
                own[:, row, :length] = part[:, begin:end]
        return self._layout.attend(query, key, value)

    def select(self, chosen: Sequence[int]) -> None:
        """Leaves all rows but some, by their places."""
        self._own = [own[:, chosen] for own in self._own]

    def following(self, lengths: np.ndarray) -> Following:
        """Returns the attention of one more token of each row.

        Args:
            lengths: own tokens of each row, with this one, int64 [rows].
        """
        missing = int(lengths.max()) - self._own[0].shape[2]
        if missing > 0:
            self._own = [np.pad(own, ((0, 0), (0, 0), (0, missing + _ROOM), (0, 0))) for own in self._own]
        return Following(prefix=self._prefix, own=self._own, lengths=lengths)


@dataclass(frozen=True, kw_only=True)
class Following:
    """Attention of one token of each row to the row's tokens before and to itself.

    Attributes:
        prefix: keys and values, [heads, tokens, size].
        own: the same of each row's own tokens, [heads, rows, room, size]; the token's are written into them.
        lengths: own tokens of each row, with this one.
    """

    prefix: list[np.ndarray]
    own: list[np.ndarray]
    lengths: np.ndarray

    def attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """See Attention.attend."""
        heads, rows, size = key.shape
        shared, longest = self.prefix[0].shape[1], int(self.lengths.max())
        for own, part in zip(self.own, (key, value), strict=True):
            own[:, np.arange(rows), self.lengths - 1] = part
        keys, values = (own[:, :, :longest] for own in self.own)
        queries = query.reshape(heads, rows, -1, size)
        scores = np.empty((*queries.shape[:3], shared + longest), np.float32)
        scores[..., :shared] = (query @ self.prefix[0].swapaxes(1, 2)).reshape(*queries.shape[:3], shared)
        np.matmul(queries, keys.swapaxes(2, 3), out=scores[..., shared:])
        scores[..., shared:] += np.where(np.arange(longest) < self.lengths[:, None], np.float32(0), -np.inf)[:, None]
        used = _ops._softmax(torch.from_numpy(scores), -1, False).numpy()
        out = used[..., :shared].reshape(*query.shape[:2], shared) @ self.prefix[1]
        out += (used[..., shared:] @ values).reshape(out.shape)
        return out
