"""Causal attention of rows that lie one behind the other, behind a prefix that they share, with its gradient.

Scores are computed in blocks of queries and again for the gradient, so that memory does not grow with the square of a
row's tokens, and what lies in a block's future is not computed (Dao et al. 2022, arXiv:2205.14135).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

_ops: Any = torch.ops.aten
# Queries of a row at once.
_BLOCK = 128
_FUTURE = np.triu(np.full((_BLOCK, _BLOCK), -np.inf, np.float32), 1)


class Attention(Protocol):
    """What the queries of some tokens attend to."""

    def attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """See Layout.attend."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where tokens lie: the prefix first, then each row's own.

    Attributes:
        prefix: tokens that every row begins with.
        lengths: tokens of each row without them.
    """

    prefix: int
    lengths: tuple[int, ...]

    def blocks(self) -> Iterator[tuple[int, int, int, int]]:
        """Yields blocks of queries: the prefix before them, where their row begins, and from where to where they go."""
        end = 0
        for row, length in enumerate((self.prefix, *self.lengths)):
            begin, end = end, end + length
            for start in range(begin, end, _BLOCK):
                yield self.prefix if row else 0, begin, start, min(start + _BLOCK, end)

    def attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Returns softmax(q k^T) v of each token and head, shaped as the queries.

        Args:
            query: scaled, [key heads, tokens * group, size]: as many heads of queries as a group has share keys and
                values.
            key: [key heads, tokens, size].
            value: the same.
        """
        out = np.empty_like(query)
        group = query.shape[1] // key.shape[1]
        for prefix, begin, start, stop in self.blocks():
            asked = slice(start * group, stop * group)
            used = _probabilities(query[:, asked], _seen(key, prefix, begin, stop), group)
            np.matmul(used.numpy(), _seen(value, prefix, begin, stop), out=out[:, asked])
        return out

    def attend_backward(
        self, d_out: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the gradients of query, key and value of `attend`, given that of its result."""
        d_query, d_key, d_value = np.empty_like(query), np.zeros_like(key), np.zeros_like(value)
        group = query.shape[1] // key.shape[1]
        for prefix, begin, start, stop in self.blocks():
            asked = slice(start * group, stop * group)
            keys, by = _seen(key, prefix, begin, stop), d_out[:, asked]
            used = _probabilities(query[:, asked], keys, group)
            d_used = torch.from_numpy(by @ _seen(value, prefix, begin, stop).swapaxes(1, 2))
            d_scores = _ops._softmax_backward_data(d_used, used, -1, torch.float32).numpy()
            np.matmul(d_scores, keys, out=d_query[:, asked])
            for gradient, parts in (
                (d_key, d_scores.swapaxes(1, 2) @ query[:, asked]),
                (d_value, used.numpy().swapaxes(1, 2) @ by),
            ):
                gradient[:, :prefix] += parts[:, :prefix]
                gradient[:, begin:stop] += parts[:, prefix:]
        return d_query, d_key, d_value


def _seen(values: np.ndarray, prefix: int, begin: int, stop: int) -> np.ndarray:
    own = values[:, begin:stop]
    return np.concatenate([values[:, :prefix], own], axis=1) if prefix else own


def _probabilities(query: np.ndarray, keys: np.ndarray, group: int) -> torch.Tensor:
    scores = query @ keys.swapaxes(1, 2)
    size = query.shape[1] // group
    scores.reshape(len(keys), size, group, -1)[..., -size:] += _FUTURE[:size, None, :size]
    probabilities: torch.Tensor = _ops._softmax(torch.from_numpy(scores), -1, False)
    return probabilities
