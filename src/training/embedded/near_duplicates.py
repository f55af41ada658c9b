"""Near-duplicate sentences, found by rules that give the same answer on every machine.

A sentence that is in the train rows and, slightly altered, in the test rows makes the test measure memory. Two texts
count as near-duplicates when, after `normalise`, one of these holds:

- they consist of the same set of words;
- the Jaccard index of their three-word shingles is at least `MIN_JACCARD`;
- the shorter has at least `MIN_CONTAINED_SHINGLES` shingles and `MIN_CONTAINMENT` of them are in the longer one.

Short idioms ("been there, done that") are below the third rule's size on purpose: a review that uses one is not a copy
of another. Shingling and both measures: Broder, "On the resemblance and containment of documents" (1997).
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations

SHINGLE_WORDS = 3
MIN_JACCARD = 0.5
MIN_CONTAINMENT = 0.8
MIN_CONTAINED_SHINGLES = 4

_DROPPED = re.compile("[\u0300-\u036f'\u2018\u2019]")
_WORD = re.compile("[a-z0-9]+")


def normalise(text: str) -> str:
    """The words of `text` in lower case without accents, apostrophes and punctuation, joined by one space.

    A text without any ASCII letter or digit (an emoticon) is returned as it is, without surrounding white space.
    Only Unicode's decompositions are used, which its stability policy freezes: no Python version differs.
    """
    decomposed = _DROPPED.sub("", unicodedata.normalize("NFKD", text).lower())
    return " ".join(_WORD.findall(decomposed)) or text.strip()


def shingles(normalised: str) -> frozenset[str]:
    """Every run of three words of a normalised text; the whole text if it is shorter than that."""
    words = normalised.split()
    runs = (" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1))
    return frozenset(runs) or frozenset([normalised])


def overlap_is_near_duplicate(shared: int, left: int, right: int) -> bool:
    """Whether two texts with `left` and `right` shingles, `shared` of them common, are near-duplicates."""
    smaller = min(left, right)
    contained = smaller >= MIN_CONTAINED_SHINGLES and shared >= MIN_CONTAINMENT * smaller
    return contained or shared >= MIN_JACCARD * (left + right - shared)


def near_duplicate_groups(normalised: Sequence[str]) -> list[list[int]]:
    """Positions of `normalised` grouped so that near-duplicates, also by way of a third text, share a group.

    Groups, and positions within one, are in rising order; a text without a near-duplicate is a group of its own.
    """
    parent = list(range(len(normalised)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in _near_duplicate_pairs(normalised):
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for position in range(len(normalised)):
        groups.setdefault(root(position), []).append(position)
    return list(groups.values())


def _near_duplicate_pairs(normalised: Sequence[str]) -> Iterator[tuple[int, int]]:
    same_words: dict[frozenset[str], int] = {}
    holders: dict[str, list[int]] = {}
    sizes = []
    for position, text in enumerate(normalised):
        first = same_words.setdefault(frozenset(text.split()), position)
        if first != position:
            yield first, position
        found = shingles(text)
        sizes.append(len(found))
        for shingle in found:
            holders.setdefault(shingle, []).append(position)
    shared: dict[tuple[int, int], int] = {}
    for positions in holders.values():
        for pair in combinations(positions, 2):
            shared[pair] = shared.get(pair, 0) + 1
    for (left, right), count in shared.items():
        if overlap_is_near_duplicate(count, sizes[left], sizes[right]):
            yield left, right
