"""Rows for a language model: what makes two of them the same, and their hash."""

from __future__ import annotations

from dataclasses import replace

from src.training.data.conversations import Conversation, Conversations, Turn


def conversations(*pairs: tuple[str, str]) -> Conversations:
    rows = tuple(
        Conversation(turns=(Turn(role="prompt", content=asked), Turn(role="completion", content=answer)))
        for asked, answer in pairs
    )
    return Conversations(split="train", origin="t", rows=rows, numbers=tuple(range(1, len(rows) + 1)))


def test_rows_are_the_same_if_they_ask_the_same() -> None:
    first, second, third = conversations(("a", "x"), ("a", "y"), ("b", "x")).whole_texts
    assert first == second != third
    # Where there is only one question, answers are what rows differ in.
    assert len(set(conversations(("", "x"), ("", "y"), ("", "y")).whole_texts)) == 2
    # Exact copies answer the same, too.
    assert len(set(conversations(("a", "x"), ("a", "y"), ("a", "y")).contents)) == 2


def test_rows_are_selected_with_their_numbers_and_hashed_with_their_roles() -> None:
    rows = conversations(("a", "x"), ("b", "y"))
    chosen = rows.select([1], split="validation")
    assert (chosen.split, chosen.numbers, chosen.rows) == ("validation", (2,), rows.rows[1:])
    moved = conversations(("ab", "x"), ("", "y"))
    one, two = rows.rows
    learnt = replace(rows, rows=(replace(one, context=1), two))
    spoken = replace(rows, rows=(replace(one, turns=(Turn(role="instruction", content="a"), one.turns[1])), two))
    assert len({part.sha256() for part in (rows, chosen, moved, learnt, spoken, rows.select([1, 0]))}) == 6
