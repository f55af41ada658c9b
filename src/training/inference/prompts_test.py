"""A line is a prompt, or a row that holds one; with its answer it is a row to train on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.conversations import Turn
from src.training.inference.prompts import parse_prompt

USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize(
    ("line", "asked", "row"),
    [
        ("hello {x}", "hello {x}", {"prompt": "hello {x}", "completion": "hi"}),
        ('{"not": JSON', '{"not": JSON', {"prompt": '{"not": JSON', "completion": "hi"}),
        ('"hello"', '"hello"', {"prompt": '"hello"', "completion": "hi"}),
        ('{"prompt": "a\\nb", "id": 3}', "a\nb", {"prompt": "a\nb", "completion": "hi"}),
        ('{"prompt": ""}', "", {"prompt": "", "completion": "hi"}),
        (json.dumps({"messages": [USER]}), (Turn(role="user", content="hello"),), {"messages": [USER, ANSWER]}),
        (
            json.dumps({"prompt": [USER]}),
            (Turn(role="user", content="hello"),),
            {"prompt": [USER], "completion": [ANSWER]},
        ),
        (
            '{"messages": [{"from": "human", "value": "hello"}]}',
            (Turn(role="user", content="hello"),),
            {"messages": [USER, ANSWER]},
        ),
    ],
)
def test_a_line_is_a_text_or_a_row(line: str, asked: Any, row: dict[str, Any]) -> None:
    prompt = parse_prompt(line, 1)
    assert prompt.asked == asked
    assert prompt.answered("hi", is_cut=False) == {**row, "finish_reason": "stop"}
    assert prompt.answered("hi", is_cut=True)["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "hello"}', "line 7 is a JSON object with neither prompt nor messages: write "),
        ('{"prompt": 3}', "line 7 has a prompt that is no list of messages: write "),
        ('{"messages": "hello"}', "line 7 has a messages that is no list"),
        ('{"messages": []}', "line 7: messages is empty"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "line 7: turn 1 of messages has the role 'tool'"),
        (json.dumps({"messages": [USER, ANSWER]}), "line 7: messages ends with a turn of the assistant"),
    ],
)
def test_a_row_that_cannot_be_answered_is_named(line: str, words: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_prompt(line, 7)
    assert str(refused.value).startswith(words)
