"""Columns under other names: what to rename is said."""

from __future__ import annotations

import pytest

from src.training.data.column_synonyms import suggest_renaming

BOTH = (
    "{0} to instruction and {1} to output (a chat, if the model has a template), or {0} to prompt and {1} to completion"
)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (("question", "answer"), BOTH.format("question", "answer")),
        (("id", "query", "response"), BOTH.format("query", "response")),
        (("source", "target"), BOTH.format("source", "target")),
        (("Questions", "Answers"), BOTH.format("Questions", "Answers")),
        (("Prompt", "Completion"), BOTH.format("Prompt", "Completion")),
        (("input", "output"), "input to instruction"),
        (("instruction", "response"), "response to output"),
        (("instruction", "context", "response", "category"), "response to output and context to input"),
        (("prompt", "response"), "response to completion"),
        (("question", "completion"), "question to prompt"),
        (("id", "conversation"), "conversation to messages"),
    ],
)
def test_a_question_beside_an_answer_is_recognised(columns: tuple[str, ...], wanted: str) -> None:
    told = suggest_renaming(columns)
    assert told is not None
    assert told.removesuffix(" (plain text)") == f"rename {wanted}"


@pytest.mark.parametrize("columns", [("review", "stars"), ("question", "sentence"), ("answer",), ("text", "target")])
def test_nothing_is_made_up(columns: tuple[str, ...]) -> None:
    assert suggest_renaming(columns) is None
