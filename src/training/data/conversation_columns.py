"""Reads the rows of a language model from the columns that hold them: TRL's, ShareGPT's or Alpaca's."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from src.cli.errors import RequestError
from src.training.data.column_synonyms import suggest_renaming
from src.training.data.conversations import Conversation, Conversations, Form, Role, Turn
from src.training.data.row_faults import RowFaultError, is_blank, require_characters
from src.training.data.tables import Table

_CHAT_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
# As ShareGPT and its descendants call them.
_ROLES = _CHAT_ROLES | {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
# What a turn may hold beside its text. It changes what a template writes, and nothing here passes it on.
_UNREAD = ("tool_calls", "function_call", "tool_call_id", "reasoning_content", "thinking")
# Which turns are learnt, as OpenAI's and axolotl's files say it.
_LEARNT_MARKS = ("weight", "train")
# How a list of messages begins, in JSON or as Python prints it.
_LIKE_MESSAGES = re.compile(r"""\s*\[\s*\{\s*['"](role|content|from|value)['"]\s*:""")

log = logging.getLogger(__name__)


def claims(table: Table, *, label: str) -> bool:
    """Whether rows are for a language model, if nothing else says so.

    Args:
        table: the train rows.
        label: the column that a classifier's label would be in.
    """
    if label in table.columns:
        return False
    return len(table.columns) == 1 or any(source.is_in(table) for source in _SOURCES if source.columns != ("text",))


def could_be_continued(table: Table) -> bool:
    """Whether a language model could learn the rows, whatever else they have."""
    return any(source.is_in(table) for source in _SOURCES)


def read_conversations(
    tables: Mapping[str, Table],
    *,
    has_template: bool,
    text_column: str | None = None,
    system_prompt: str | None = None,
    skip_bad_rows: bool = False,
) -> tuple[dict[str, Conversations], Form]:
    """Reads and checks the rows of every split.

    Args:
        tables: by split, `train` among them, which decides the columns.
        has_template: whether the model has a chat template, in which Alpaca's rows are then written.
        text_column: the column with text; None: told from the columns.
        system_prompt: begins every row that has no system turn.
        skip_bad_rows: leaves out rows that cannot be learnt from, in place of a refusal.

    Returns:
        The rows by split, and the form of all of them.

    Raises:
        RequestError: a row cannot be learnt from, or the columns are not known.
    """
    train = tables["train"]
    source = _source(train, text_column)
    form: Form | None = None
    splits = {}
    for split, table in tables.items():
        if not source.is_in(table):
            raise RequestError(
                f"{table.origin} has no {source.name}, which {train.origin} has: it has {', '.join(table.columns)}"
            )
        rows: list[Conversation] = []
        faults: dict[int, str] = {}
        for at, cells in enumerate(_rows(table)):
            try:
                row_form, row = source.read(source, cells, has_template)
                form = form or row_form
                if row_form != form:
                    raise RowFaultError(f"is of the form {row_form}, and rows before it of the form {form}")
            except RowFaultError as fault:
                faults[at] = _other_source(source, cells) or str(fault)
            else:
                rows.append(row if system_prompt is None else _with_system(row, system_prompt))
        table.refuse(faults, then="correct or remove {rows}, or leave out with --skip_bad_rows", skip=skip_bad_rows)
        numbers = (number for at, number in enumerate(table.numbers) if at not in faults)
        splits[split] = Conversations(
            split=split, origin=table.origin, rows=tuple(rows), numbers=tuple(numbers), unit=table.numbered
        )
    assert form is not None
    if system_prompt is not None and form != "chat":
        raise RequestError(
            f"--system_prompt is for chat templates, and {train.origin} has {source.name}: put it into the prompts"
        )
    return splits, form


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    names = list(table.columns)
    for values in zip(*table.columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _with_system(row: Conversation, system_prompt: str) -> Conversation:
    if row.turns[0].role == "system":
        return row
    system = Turn(role="system", content=system_prompt)
    return Conversation(turns=(system, *row.turns), context=row.context + 1 if row.context else 0)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Columns that rows are read from.

    Attributes:
        columns: all of them must be there.
        read: makes a conversation of a row's cells; whether there is a chat template is its last argument.
        optional: columns that are read where they are there.
    """

    columns: tuple[str, ...]
    read: Callable[[_Source, Mapping[str, Any], bool], tuple[Form, Conversation]]
    optional: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " and ".join(self.columns)

    def is_in(self, table: Table) -> bool:
        return all(column in table.columns for column in self.columns)

    def is_filled(self, cells: Mapping[str, Any]) -> bool:
        return all(not is_blank(cells.get(column)) for column in self.columns)


def _source(table: Table, text_column: str | None) -> _Source:
    """Returns what the rows are read from: the first that is there, in the order of _SOURCES."""
    if text_column is not None:
        named = _Source(columns=(text_column,), read=_read_text)
        if not named.is_in(table):
            raise RequestError(f"{table.origin} has no column {text_column!r}: it has {', '.join(table.columns)}")
        return named
    there = [source for source in _SOURCES if source.is_in(table)]
    if not there and len(table.columns) == 1:
        return _Source(columns=tuple(table.columns), read=_read_text)
    if not there:
        remedy = suggest_renaming(table.columns) or (
            f"text generation reads {', '.join(source.name for source in _SOURCES)} (name another column of text with "
            "--text_column_name)"
        )
        raise RequestError(f"{table.origin} has the columns {', '.join(table.columns)}: {remedy}")
    read = {*there[0].columns, *there[0].optional}
    if unread := [column for column in table.columns if column not in read]:
        log.info("%s: columns that are not read: %s", table.origin, ", ".join(unread))
    return there[0]


def _other_source(source: _Source, cells: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a row that holds other columns than the rest; None if it does not."""
    if not all(is_blank(cells.get(column)) for column in source.columns):
        return None
    other = next((other for other in _SOURCES if other.is_filled(cells)), None)
    return None if other is None else f"has {other.name}, and the file has {source.name}"


def _read_turns(source: _Source, cells: Mapping[str, Any], has_template: bool) -> tuple[Form, Conversation]:
    del has_template
    (column,) = source.columns
    return "chat", _conversation(column, read_turns(column, cells[column]))


def _read_completion(source: _Source, cells: Mapping[str, Any], has_template: bool) -> tuple[Form, Conversation]:
    del source, has_template
    prompt, completion = (_messages(column, cells[column]) or cells[column] for column in ("prompt", "completion"))
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return "plain", Conversation(turns=(_text(cells, "prompt"), _answer(cells, "completion")))
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise RowFaultError("one of prompt and completion is a list of messages, the other is not")
    asked, answered = read_turns("prompt", prompt), read_turns("completion", completion)
    return "chat", _conversation("completion", (*asked, *answered), context=len(asked))


def _conversation(column: str, turns: tuple[Turn, ...], *, context: int = 0) -> Conversation:
    conversation = Conversation(turns=turns, context=context)
    if not conversation.answers:
        first = ": its first turn answers nothing" if turns and turns[0].role == "assistant" else ""
        raise RowFaultError(f"{column} has no assistant turn to learn from{first}")
    return conversation


def _read_alpaca(source: _Source, cells: Mapping[str, Any], has_template: bool) -> tuple[Form, Conversation]:
    del source
    instruction, given = _text(cells, "instruction"), _text(cells, "input")
    answer = _answer(cells, "output")
    given_turns = () if is_blank(given.content) else (given,)
    if not has_template:
        return "alpaca", Conversation(turns=(instruction, *given_turns, answer))
    question = "\n\n".join(turn.content for turn in (instruction, *given_turns))
    turns = (Turn(role="user", content=question), Turn(role="assistant", content=answer.content))
    return "chat", Conversation(turns=turns)


def _read_text(source: _Source, cells: Mapping[str, Any], has_template: bool) -> tuple[Form, Conversation]:
    del has_template
    (column,) = source.columns
    if is_blank(cells[column]):
        raise RowFaultError(f"{column} is empty")
    return "text", Conversation(turns=(Turn(role="text", content=_string(column, cells[column])),))


# Where a table has the columns of several, the first is read: what is most like a conversation. Published sets have
# the text of their messages or instructions in further columns.
_SOURCES = (
    _Source(columns=("messages",), read=_read_turns),
    _Source(columns=("conversations",), read=_read_turns),
    _Source(columns=("prompt", "completion"), read=_read_completion),
    _Source(columns=("instruction", "output"), optional=("input",), read=_read_alpaca),
    _Source(columns=("text",), read=_read_text),
)


def _text(cells: Mapping[str, Any], column: Literal["prompt", "instruction", "input"]) -> Turn:
    return Turn(role=column, content=_string(column, cells.get(column)))


def _answer(cells: Mapping[str, Any], column: str) -> Turn:
    if is_blank(cells[column]):
        raise RowFaultError(f"{column} is empty")
    return Turn(role="completion", content=_string(column, cells[column]))


def _string(what: str, value: Any) -> str:
    if isinstance(value, str):
        require_characters(what, value)
        return value
    if is_blank(value):
        return ""
    raise RowFaultError(f"{what} is {value!r:.50}, not text")


def _messages(column: str, value: Any) -> list[Any] | None:
    """Returns a list of messages, or the one that a cell spells in JSON; None if it is text of another kind.

    Raises:
        RowFaultError: it begins as such a list does, and is not JSON.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = _from_json(column, value)
        except RowFaultError:
            if _LIKE_MESSAGES.match(value):
                raise
            return None
    if isinstance(value, list) and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value):
        return value
    return None


def read_turns(column: str, value: Any) -> tuple[Turn, ...]:
    """Makes turns of a cell: a list of objects, or such a list in JSON, as csv has it.

    Raises:
        RowFaultError: it is no such list, or a turn cannot be read.
    """
    if isinstance(value, str) and value.strip():
        value = _from_json(column, value)
    if is_blank(value) or value == []:
        raise RowFaultError(f"{column} is empty")
    if isinstance(value, dict) and all(isinstance(part, list) for part in value.values()):
        # As `datasets` stores a Sequence of such features.
        if len({len(part) for part in value.values()}) > 1:
            raise RowFaultError(f"{column} has lists of different lengths in {', '.join(value)}")
        value = [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise RowFaultError(f"{column} is {value!r:.50}, not a list of turns")
    return tuple(_turn(f"turn {at} of {column}", turn) for at, turn in enumerate(value, 1))


def _from_json(column: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowFaultError(f"{column} is not JSON (json.dumps writes it)") from error


def _turn(place: str, turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise RowFaultError(f"{place} is {turn!r:.50}, not an object with role and content")
    # Arrow gives every turn the keys of all others, with nulls.
    told = {key: value for key, value in turn.items() if not is_blank(value) and value != []}
    role = told.get("role", told.get("from"))
    if role is None:
        raise RowFaultError(f"{place} has no role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RowFaultError(f"{place} has the role {role!r:.50}: the roles are {', '.join(_CHAT_ROLES)}")
    if unread := next((key for key in _UNREAD if key in told), None):
        raise RowFaultError(f"{place} has {unread}, which is not read: text alone is")
    if mark := next((mark for mark in _LEARNT_MARKS if told.get(mark, 1) != 1), None):
        raise RowFaultError(f"{place} has {mark} {told[mark]!r:.50}, which is not read: all turns are learnt alike")
    if not turn.keys() & {"content", "value"}:
        raise RowFaultError(f"{place} has no content: it has {', '.join(turn)}")
    given = turn["content"] if turn.get("content") is not None else turn.get("value")
    content = _content(place, given)
    if _ROLES[role] == "assistant" and is_blank(content):
        raise RowFaultError(f"{place} is of the assistant and empty")
    if given is None:
        # No template writes it: some write "None", others fail.
        raise RowFaultError(f"{place} has null for its content: write an empty text if it is one")
    return Turn(role=_ROLES[role], content=content)


def _content(place: str, value: Any) -> str:
    """Returns a turn's text, which may come in parts."""
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        value = "".join(_string(place, part.get("text")) for part in value)
    return _string(place, value)
