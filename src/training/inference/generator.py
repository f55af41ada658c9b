"""Answers of a language model: greedy or sampled, many at once, each the same as it is alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from src.training.fused.causal import CausalForward

# Two logits nearer to each other than this, in units of the larger: the sums of a batch may end in another order of
# the two than those of a row alone (transformers#22707). With 135 M weights they differ by less than a tenth of it.
_TIE = 1e-4

Prompt = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How the next token is chosen, and when an answer ends.

    Attributes:
        max_new_tokens: of an answer.
        max_tokens: of a prompt and its answer, which the model has positions for; None: any number.
        stop_ids: tokens that end it.
        temperature: of the sampling; 0: the likeliest token.
        top_k: sample of so many of the likeliest; 0: of all.
        top_p: sample of the likeliest whose probabilities add up to this (Holtzman et al. 2019).
        seed: of the sampling.
    """

    max_new_tokens: int
    stop_ids: frozenset[int]
    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A generated answer.

    Attributes:
        ids: its tokens, without the one that ends it.
        is_cut: whether it was ended by max_new_tokens or max_tokens.
    """

    ids: tuple[int, ...]
    is_cut: bool


def generate(
    forward: CausalForward,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    *,
    on_token: Callable[[int, int], None] = lambda _row, _token: None,
) -> list[Answer]:
    """Answers prompts, all in one batch. The model should be in evaluation mode.

    Args:
        forward: of the model.
        prompts: token ids of each, at least one.
        decoding: how.
        on_token: called with the number of a prompt and each new token of its answer.
    """
    rows = [_Row(number=number, ids=list(prompt), start=len(prompt)) for number, prompt in enumerate(prompts)]
    with torch.inference_mode():
        if forward.shares_prefix:
            _decode_together(forward, rows, decoding, on_token)
        else:
            for row in rows:
                while not row.extend(_choose(forward.last_logits(torch.tensor(row.ids)), row, decoding), decoding):
                    on_token(row.number, row.ids[-1])
    return [Answer(ids=tuple(row.ids[row.start :]), is_cut=row.is_cut) for row in rows]


@dataclass(kw_only=True)
class _Row:
    number: int
    ids: list[int]
    start: int
    is_cut: bool = False

    def extend(self, token: int, decoding: Decoding) -> bool:
        """Takes the next token; returns whether the answer has ended."""
        if token in decoding.stop_ids:
            return True
        if len(self.ids) - self.start == decoding.max_new_tokens or len(self.ids) == decoding.max_tokens:
            self.is_cut = True
            return True
        self.ids.append(token)
        return False


def common_prefix(prompts: Sequence[Prompt]) -> int:
    """Returns how many tokens all prompts begin with, and at least one fewer than the shortest has."""
    shortest = min(map(len, prompts)) - 1
    first = np.array(prompts[0][:shortest])
    same = np.ones(shortest, bool)
    for prompt in prompts[1:]:
        same &= np.array(prompt[:shortest]) == first
    return shortest if same.all() else int(same.argmin())


def _decode_together(
    forward: CausalForward, rows: list[_Row], decoding: Decoding, on_token: Callable[[int, int], None]
) -> None:
    prompts = [row.ids for row in rows]
    growing = forward.grow(prompts, shared=common_prefix(prompts))
    while rows:
        going = []
        for place, (row, logits) in enumerate(zip(rows, forward.logits(growing.outputs), strict=True)):
            if not row.extend(_choose_surely(forward, logits, row, decoding), decoding):
                on_token(row.number, row.ids[-1])
                going.append(place)
        if going and len(going) < len(rows):
            growing.select(going)
        rows = [rows[place] for place in going]
        if rows:
            growing.extend([row.ids[-1] for row in rows])


def _choose_surely(forward: CausalForward, logits: torch.Tensor, row: _Row, decoding: Decoding) -> int:
    """As _choose; where two tokens are all but equal, by the row computed alone."""
    if not decoding.temperature and not has_clear_best(logits):
        logits = forward.last_logits(torch.tensor(row.ids))
    return _choose(logits, row, decoding)


def has_clear_best(logits: torch.Tensor) -> torch.Tensor:
    """Returns whether the likeliest token is the same however a row is computed. logits: [..., vocabulary]."""
    best, second = logits.topk(2).values.unbind(-1)
    return best - second >= _TIE * best.abs().clamp(min=1.0)


def _choose(logits: torch.Tensor, row: _Row, decoding: Decoding) -> int:
    if not decoding.temperature:
        return int(logits.argmax())
    order = np.argsort(-logits.double().numpy(), kind="stable")
    scaled = logits.double().numpy()[order] / decoding.temperature
    odds = np.exp(scaled - scaled[0])
    if decoding.top_k:
        odds[decoding.top_k :] = 0
    total = np.cumsum(odds)
    # Those before which less than top_p has gone.
    total = total[: 1 + int(np.count_nonzero(total[:-1] < decoding.top_p * total[-1]))]
    return int(order[np.searchsorted(total, _uniform(row, decoding.seed) * total[-1], side="right")])


def _uniform(row: _Row, seed: int) -> float:
    """Returns a random number from [0, 1): a function of the seed, the prompt and the place, not of the batch."""
    prompt = hashlib.sha256(np.array(row.ids[: row.start], np.int64).tobytes()).digest()
    return float(np.random.default_rng([seed, int.from_bytes(prompt[:8], "little"), len(row.ids)]).random())
