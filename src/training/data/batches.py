"""Tokenized rows and the batches made of them, with little padding and a fair shuffle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from src.training.data.rows import Examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tells BERT which text of a pair a token belongs to.
TOKEN_TYPES = "token_type_ids"

# Batches whose rows are sorted by length together. More: less padding, but less randomness in which rows share a batch.
_BATCHES_A_POOL = 50
# A tokenized text takes a kilobyte or more until its ids are taken out.
TEXTS_AT_ONCE = 4096

Batch = dict[str, torch.Tensor]


class EncodedRows(Protocol):
    """Tokenized rows of one split, whatever they are trained for."""

    @property
    def labels(self) -> np.ndarray:
        """What Problem.mass and Problem.score take, [rows]."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [rows]."""

    @property
    def pad_id(self) -> int:
        """The id that fills a batch up."""

    def __len__(self) -> int: ...

    def tokens(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the token ids of rows, end to end, int32."""

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """Returns rows as the model takes them."""


@dataclass(frozen=True, kw_only=True)
class EncodedExamples:
    """Token ids of all rows, end to end, without padding.

    Attributes:
        ids: int32 [tokens].
        starts: int64 [rows + 1]; row i is ids[starts[i]:starts[i + 1]].
        labels: int64 [rows]; of a regression float32 [rows], of many labels float32 [rows, labels].
        pad_id: id that fills a batch up.
        types: int8 [tokens], which text of a pair a token belongs to; None without pairs, or if the model does not ask.
    """

    ids: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    pad_id: int
    types: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [rows]."""
        return np.diff(self.starts)

    def tokens(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the token ids of rows, end to end, int32."""
        return self._end_to_end(self.ids, rows)

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """Pads rows to the longest of them: labels [rows]; input_ids and the like int64 [rows, tokens].

        Where all rows are of one length there is nothing to mask and no attention_mask: attention is faster without.
        Half of SST-2's batches of 16 are so.
        """
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        taken = np.arange(longest) < lengths[:, None]
        ids = self._padded(self.ids, rows, taken=taken, fill=self.pad_id)
        batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(self.labels[rows])}
        if self.types is not None:
            batch[TOKEN_TYPES] = torch.from_numpy(self._padded(self.types, rows, taken=taken, fill=0))
        if int(lengths.min()) < longest:
            batch["attention_mask"] = torch.from_numpy(taken.astype(np.int64))
        return batch

    def _padded(
        self, tokens: np.ndarray, rows: Sequence[int] | np.ndarray, *, taken: np.ndarray, fill: int
    ) -> np.ndarray:
        padded = np.full(taken.shape, fill, np.int64)
        padded[taken] = self._end_to_end(tokens, rows)
        return padded

    def _end_to_end(self, tokens: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.concatenate([tokens[self.starts[row] : self.starts[row + 1]] for row in rows])


def encode(
    rows: Examples, *, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, token_types: bool = False
) -> EncodedExamples:
    """Tokenizes every row once.

    Not cached: SST-2's 67,349 train rows take 1.0 s on 2 quiet cores (1.75 s by the tokenizer's own call), the half of
    them that the tutorial trains on 0.5 s of a run of half a minute; and a run that is repeated trains nothing at all.

    Args:
        rows: texts, or pairs of them.
        tokenizer: of the model.
        max_seq_length: longer texts are truncated; of a pair, the longer text, token by token.
        token_types: whether the model reads which text of a pair a token belongs to.
    """
    token_types = token_types and rows.text_pairs is not None
    texts = list(rows.texts) if rows.text_pairs is None else list(zip(rows.texts, rows.text_pairs, strict=True))
    ids, types, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int8)], [0]
    for start in range(0, len(rows), TEXTS_AT_ONCE):
        encoded = _encodings(texts[start : start + TEXTS_AT_ONCE], tokenizer=tokenizer, max_seq_length=max_seq_length)
        ids.append(_end_to_end((row.ids for row in encoded), np.int32))
        lengths.extend(len(row) for row in encoded)
        if token_types:
            types.append(_end_to_end((row.type_ids for row in encoded), np.int8))
    labels = np.array(rows.labels)
    return EncodedExamples(
        ids=np.concatenate(ids),
        starts=np.cumsum(lengths, dtype=np.int64),
        labels=labels.astype(np.float32 if len(labels) and labels.dtype.kind == "f" else np.int64),
        pad_id=tokenizer.pad_token_id,
        types=np.concatenate(types) if token_types else None,
    )


def _encodings(texts: list[Any], *, tokenizer: Any, max_seq_length: int) -> list[Any]:
    """Returns each text's or pair's tokens, as `tokenizer(..., truncation=True)` does, in 0.6 of the time.

    Its own call also computes offsets and masks and sorts them into lists, which nothing reads here.
    """
    if not tokenizer.is_fast:
        return [_slow_encoding(text, tokenizer=tokenizer, max_seq_length=max_seq_length) for text in texts]
    # Sets the truncation of the backend, and how it treats special tokens in a text.
    tokenizer("", truncation="longest_first", max_length=max_seq_length)
    encoded: list[Any] = tokenizer.backend_tokenizer.encode_batch_fast(texts)
    return encoded


def _slow_encoding(text: Any, *, tokenizer: Any, max_seq_length: int) -> Any:
    pair = text if isinstance(text, tuple) else (text,)
    encoded = tokenizer(*pair, truncation="longest_first", max_length=max_seq_length, return_token_type_ids=True)
    return _Encoding(ids=encoded["input_ids"], type_ids=encoded["token_type_ids"])


@dataclass(frozen=True, kw_only=True)
class _Encoding:
    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


def _end_to_end(rows: Iterable[list[int]], dtype: type[np.generic]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype)


def epoch_batches(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Deals the rows of an epoch out to batches of similar length.

    A fair shuffle: rows are permuted first; only within a pool of 50 batches' rows are they sorted by
    length, and the batches of the whole epoch are permuted again. So every row is seen once an epoch,
    every order of batches is equally likely, and which rows share a batch changes from epoch to epoch.

    Returns:
        Row numbers of each batch: a pure function of the arguments.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    pool = batch_size * _BATCHES_A_POOL
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches.extend(np.split(rows, range(batch_size, len(rows), batch_size)))
    return [batches[at] for at in random.permutation(len(batches))]


def scoring_batches(lengths: np.ndarray, *, batch_size: int) -> Iterator[np.ndarray]:
    """Yields every row once in order of length; scores do not depend on the order."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
