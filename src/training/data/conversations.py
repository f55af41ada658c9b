"""Rows for a language model: conversations, prompts with their completions, or text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from src.training.data.labels import Labels

# chat: turns as the model's own template writes them; plain: a prompt and what follows it; alpaca: the same, with the
# prompt as Alpaca words it; text: text alone.
Form = Literal["chat", "plain", "alpaca", "text"]
Role = Literal["system", "user", "assistant", "instruction", "input", "prompt", "completion", "text"]

_ANSWERS = ("assistant", "completion")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Who says what."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One row.

    Attributes:
        turns: of the form chat: system, user and assistant; plain: prompt, completion; alpaca: instruction, input if
            there is one, completion; text: text.
        context: so many turns at the beginning are never learnt, even if the assistant says them.
    """

    turns: tuple[Turn, ...]
    context: int = 0

    @property
    def answers(self) -> tuple[int, ...]:
        """Which turns are learnt; none of the form text. A first turn answers nothing."""
        first = max(1, self.context)
        return tuple(at for at, turn in enumerate(self.turns) if turn.role in _ANSWERS and at >= first)

    @property
    def asked(self) -> tuple[Turn, ...]:
        """What comes before the last answer; nothing of the form text."""
        return self.turns[: self.answers[-1]] if self.answers else ()

    @property
    def reference(self) -> str | None:
        """The last answer; None of the form text."""
        return self.turns[self.answers[-1]].content if self.answers else None


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """The rows of one split.

    Attributes:
        origin: where they come from, for messages.
        numbers: of the rows or lines there, counted from 1.
        unit: what `numbers` counts: row or line.
    """

    split: str
    origin: str
    rows: tuple[Conversation, ...]
    numbers: tuple[int, ...]
    unit: str = "row"

    # As of Examples: these are never pairs.
    text_pairs: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> tuple[int, ...]:
        """A 0 for each row: they have none."""
        return (0,) * len(self.rows)

    @property
    def whole_texts(self) -> tuple[str, ...]:
        """What makes a row the same as another: what is asked, or, where all rows ask the same, the whole row."""
        asked = [row.asked for row in self.rows]
        if len(set(asked)) < 2:
            asked = [row.turns for row in self.rows]
        return tuple(" \0 ".join(turn.content for turn in turns) for turns in asked)

    @property
    def contents(self) -> tuple[Conversation, ...]:
        """All that a row holds."""
        return self.rows

    def select(self, rows: Sequence[int] | np.ndarray, *, split: str | None = None) -> Conversations:
        """Returns these rows, in this order."""
        return Conversations(
            split=split or self.split,
            origin=self.origin,
            rows=tuple(self.rows[row] for row in rows),
            numbers=tuple(self.numbers[row] for row in rows),
            unit=self.unit,
        )

    def sha256(self, labels: Labels | None = None) -> str:
        """Hash of all turns in order; every part is preceded by its length. `labels` say nothing of these rows."""
        del labels
        digest = hashlib.sha256()
        for row in self.rows:
            for number in (len(row.turns), row.context):
                digest.update(number.to_bytes(8, "little"))
            for part in (part.encode() for turn in row.turns for part in (turn.role, turn.content)):
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()
