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


def set_aside(
    groups: np.ndarray, *, sizes: Sequence[int], seed: int, strata: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Fills parts with whole groups in random order, each up to its size and with a like share of every stratum.

    Args:
        groups: one group number per row, int64 [n].
        sizes: rows wanted for each part. The last part is the one to train on: it has a group of every stratum, if it
            has room for that many.
        seed: decides the order of groups.
        strata: one stratum per row, such as its class; a group is of the rarest of its rows. None: all are one.

    Returns:
        Row numbers of each part, ascending. A part may be smaller where groups are large.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(int(numbers.max()) + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    by_rank = np.argsort(rank[numbers], kind="stable")
    dealt = np.split(by_rank, np.flatnonzero(np.diff(rank[numbers][by_rank]) > 0) + 1)
    stratum = _rarest(dealt, strata)
    parts: list[np.ndarray] = []
    left = np.arange(len(dealt))
    for part, size in enumerate(sizes):
        left = left[_spread(stratum[left], trains=part == len(sizes) - 1)]
        ends = np.cumsum([len(dealt[group]) for group in left])
        # A part ends at the last whole group that fits, so that no group is in two parts.
        fits = int(np.searchsorted(ends, size, side="right"))
        parts.append(np.sort(np.concatenate([dealt[group] for group in left[:fits]] or [np.empty(0, np.int64)])))
        left = np.sort(left[fits:])
    return parts


def _rarest(groups: Sequence[np.ndarray], strata: Sequence[int] | None) -> np.ndarray:
    """Returns the stratum of each group, int64 [groups]."""
    if strata is None:
        return np.zeros(len(groups), np.int64)
    found, counts = np.unique(np.asarray(strata, np.int64), return_counts=True)
    rows = dict(zip(found.tolist(), counts.tolist(), strict=True))
    return np.array([min((strata[row] for row in group), key=lambda at: (rows[at], at)) for group in groups], np.int64)


def _spread(stratum: np.ndarray, *, trains: bool) -> np.ndarray:
    """Returns an order of groups any beginning of which has a like share of every stratum.

    The k-th of n groups of a stratum stands at (k + 0.5) / n of the way, and the last one at its end. Of a part to
    train on it is k / n: each stratum begins with one. Groups of one stratum stay in their order.
    """
    place = np.empty(len(stratum))
    for found in np.unique(stratum):
        its = np.flatnonzero(stratum == found)
        place[its] = (np.arange(len(its)) + (0.0 if trains else 0.5)) / len(its)
        if not trains:
            place[its[-1]] = 1.0
    return np.argsort(place, kind="stable")
