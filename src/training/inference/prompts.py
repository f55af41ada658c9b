"""Prompts on input, texts or rows in JSON, and the rows that their answers make of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from src.cli.errors import RequestError
from src.training.data.conversation_columns import read_turns
from src.training.data.conversations import Turn
from src.training.data.row_faults import RowFaultError, require_characters

_EXAMPLES = '{"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}'


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a model is asked.

    Attributes:
        place: where it came from, for messages.
        column: that holds it: prompt or messages.
        asked: a text, or turns.
    """

    place: str
    column: str
    asked: str | tuple[Turn, ...]

    def answered(self, text: str, *, is_cut: bool) -> dict[str, Any]:
        """Returns the row with its answer, as TRL names columns: what was asked and answered can be trained on."""
        finish = {"finish_reason": "length" if is_cut else "stop"}
        if isinstance(self.asked, str):
            return {"prompt": self.asked, "completion": text, **finish}
        asked = [{"role": turn.role, "content": turn.content} for turn in self.asked]
        answer = [{"role": "assistant", "content": text}]
        row = {"messages": asked + answer} if self.column == "messages" else {"prompt": asked, "completion": answer}
        return row | finish


def text_prompt(text: str, *, place: str) -> Prompt:
    """Makes a prompt of a text.

    Raises:
        RequestError: it holds what is no character.
    """
    try:
        require_characters("the text", text)
    except RowFaultError as fault:
        raise RequestError(f"{place}: {fault}: write it in UTF-8") from fault
    return Prompt(place=place, column="prompt", asked=text)


def parse_prompt(line: str, number: int) -> Prompt:
    """Returns the prompt in a line: a text, or a JSON object with prompt or messages.

    Raises:
        RequestError: it is an object without either, or with messages that nobody can answer.
    """
    place = f"line {number}"
    try:
        fields = json.loads(line) if line.lstrip().startswith("{") else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return text_prompt(line, place=place)
    column = next((name for name in ("messages", "prompt") if fields.get(name) is not None), None)
    if column is None:
        raise RequestError(f"{place} is a JSON object with neither prompt nor messages: write {_EXAMPLES}")
    given = fields[column]
    if column == "prompt" and isinstance(given, str):
        return text_prompt(given, place=place)
    if not isinstance(given, list):
        raise RequestError(f"{place} has a {column} that is no list of messages: write {_EXAMPLES}")
    try:
        turns = read_turns(column, given)
    except RowFaultError as fault:
        raise RequestError(f"{place}: {fault}") from fault
    if turns[-1].role != "user":
        raise RequestError(f"{place}: {column} ends with a turn of the {turns[-1].role}, and only a user is answered")
    return Prompt(place=place, column=column, asked=turns)
