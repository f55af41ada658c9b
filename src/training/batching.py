"""Tokenised rows and the batches made of them, with little padding and a fair shuffle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from src.training.data import Rows
from src.training.model_inputs import TOKEN_TYPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Batches whose rows are sorted by length together. More: less padding, less chance in what meets what.
_BATCHES_A_POOL = 50

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class EncodedRows:
    """Token ids of all rows, end to end, without padding.

    Attributes:
        ids: int32 [tokens].
        starts: int64 [rows + 1]; row i is ids[starts[i]:starts[i + 1]].
        labels: int64 [rows], or float32 [rows] of a regression.
        pad_id: id that fills a batch up.
        types: int8 [tokens], which text of a pair a token is of; None where there are no pairs, or no need to tell.
    """

    ids: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    pad_id: int
    types: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [rows]."""
        return np.diff(self.starts)

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
        padded[taken] = np.concatenate([tokens[self.starts[row] : self.starts[row + 1]] for row in rows])
        return padded


def encode(
    rows: Rows, *, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, token_types: bool = False
) -> EncodedRows:
    """Tokenises every row once.

    Args:
        rows: texts, or pairs of them.
        tokenizer: of the model.
        max_seq_length: a text of more tokens is cut; of a pair, the longer text, token by token.
        token_types: whether the model tells the texts of a pair apart by them.
    """
    token_types = token_types and rows.pairs is not None
    encoded: Mapping[str, list[list[int]]] = {"input_ids": [], TOKEN_TYPES: []}
    if len(rows):
        encoded = tokenizer(
            list(rows.texts),
            None if rows.pairs is None else list(rows.pairs),
            truncation="longest_first",
            max_length=max_seq_length,
            return_attention_mask=False,
            return_token_type_ids=token_types,
        )
    labels = np.array(rows.labels)
    return EncodedRows(
        ids=_end_to_end(encoded["input_ids"], np.int32),
        starts=np.cumsum([0, *map(len, encoded["input_ids"])], dtype=np.int64),
        labels=labels.astype(np.float32 if len(labels) and labels.dtype.kind == "f" else np.int64),
        pad_id=tokenizer.pad_token_id,
        types=_end_to_end(encoded[TOKEN_TYPES], np.int8) if token_types else None,
    )


def _end_to_end(rows: list[list[int]], dtype: type[np.generic]) -> np.ndarray:
    return np.fromiter((token for row in rows for token in row), dtype)


def epoch_batches(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Deals the rows of an epoch out to batches of like lengths.

    A fair shuffle: rows are permuted first; only within a pool of 50 batches' rows are they sorted by
    length, and the batches of the whole epoch are permuted again. So every row is seen once an epoch,
    every order of batches is as likely as another, and what meets what changes from epoch to epoch.

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
