"""Splits rows, by groups that stay together: a pure function of the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def plain(text: str) -> str:
    """Returns what two texts share that are the same up to case and white space."""
    return " ".join(text.lower().split())


def row_groups(texts: Sequence[str]) -> np.ndarray:
    """Groups rows whose text is the same up to case and white space. Returns one group number per row, int64 [n]."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(plain(text), len(numbers)) for text in texts], np.int64)


def sentence_groups(texts: Sequence[str]) -> np.ndarray:
    """Groups each phrase with the longest row that contains it as a run of words.

    SST-2's train rows are the constituents of 6,920 sentences (Socher et al. 2013), so a random row
    split puts parts of one sentence on both sides. A phrase that several sentences share joins the
    longest of them; that leaks single words and idioms, but no sentences.

    Returns:
        One group number per row, int64 [n].
    """
    words = [tuple(text.lower().split()) for text in texts]
    group_of: dict[tuple[str, ...], int] = {}
    groups = np.empty(len(words), np.int64)
    # Longest first: a row that is not yet a known run of words starts a group of its own.
    for row in sorted(range(len(words)), key=lambda at: (-len(words[at]), words[at])):
        run = words[row]
        known = group_of.get(run)
        if known is None:
            known = row
            for start in range(len(run)):
                for end in range(start + 1, len(run) + 1):
                    group_of.setdefault(run[start:end], known)
        groups[row] = known
    return groups


def set_aside(groups: np.ndarray, *, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Fills parts with whole groups in random order, each up to its size.

    Args:
        groups: one group number per row, int64 [n].
        sizes: rows wanted for each part.
        seed: decides the order of groups.

    Returns:
        Row numbers of each part, ascending. A part may be smaller where groups are large.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(int(numbers.max()) + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    dealt = np.argsort(rank[numbers], kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(rank[numbers][dealt]) > 0])
    parts: list[np.ndarray] = []
    at = 0
    for size in sizes:
        # A part ends at the last whole group that fits, so that no group is in two parts.
        fits = starts[(starts > at) & (starts <= at + size)]
        end = len(dealt) if at + size >= len(dealt) else int(fits[-1]) if len(fits) else at
        parts.append(np.sort(dealt[at:end]))
        at = end
    return parts
