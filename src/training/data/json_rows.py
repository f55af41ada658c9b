"""Reads objects out of JSON: one a line, in one array, or in an array under one name."""

from __future__ import annotations

import json
import re
from typing import Any

from src.cli.errors import RequestError
from src.training.data.read_options import ReadOptions
from src.training.data.row_faults import RowFaultError, refuse_rows, require_characters
from src.training.data.tables import Table

# Lists of these names are the turns of one conversation, not rows.
_CONVERSATIONS = ("messages", "conversations", "prompt", "completion")

_BLANKS = re.compile(r"\s*")
_MAX_NAMED = 5


def read_json_rows(text: str, *, origin: str, is_document: bool, options: ReadOptions) -> Table:
    """Reads rows. Not by pyarrow, which turns strings like dates into dates.

    Args:
        text: of the file.
        origin: its name in messages.
        is_document: whether all of it may be one object that holds the rows.
        options: what the user says of the file.

    Raises:
        RequestError: it holds no such rows, or some are not objects.
    """
    document = _document(text, origin, is_document=is_document)
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    faults: dict[int, str] = {}
    # Not by splitlines(): it also splits at U+2028 and its like, which may occur in a string as they are.
    lines = enumerate(text.split("\n") if document is None else document, 1)
    for number, value in lines:
        if document is None and not value.strip():
            continue
        try:
            rows.append(_row(_parse_line(value) if document is None else value))
            numbers.append(number)
        except RowFaultError as fault:
            faults[number] = str(fault)
        except RecursionError:
            faults[number] = "is nested too deeply"
    refuse_rows(
        origin,
        faults,
        unit="row" if document is not None else "line",
        then="write an object with a value for each column, or leave such rows out with --skip_bad_rows",
        skip=options.skip_bad_rows,
    )
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    # Rows of an array are numbered by their places in it.
    unit = "line" if document is None else "row"
    return Table(origin=origin, columns=columns, class_names={}, lines=numbers, unit=unit)


def _document(text: str, origin: str, *, is_document: bool) -> list[Any] | None:
    """Returns the rows of an array, of the only array in an object, or objects that take several lines each.

    None: every line is a row.
    """
    start = text.lstrip()
    if start.startswith("{") and not _is_json(start.partition("\n")[0]) and (objects := _objects_in_turn(start)):
        under = _rows_of(dict(objects[0]), origin) if is_document and len(objects) == 1 else None
        return list(objects) if under is None else under
    if not start.startswith("[") and not (is_document and start.startswith("{")):
        return None
    try:
        found = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        if any(_is_json(line) for line in start.split("\n", 2)[:2]):
            return None
        raise RequestError(f"{origin} is not JSON: {_words(error, with_line=True)}") from error
    if isinstance(found, _Members):
        under = _rows_of(dict(found), origin)
        return [found] if under is None else under
    return list(found)


def _objects_in_turn(text: str) -> list[_Members]:
    """Returns objects that follow one another, as jq writes them; none if anything else is among them."""
    decoder = json.JSONDecoder(object_pairs_hook=_Members)
    objects, at = [], 0
    while at < len(text):
        try:
            found, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(found, _Members):
            return []
        objects.append(found)
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
    return objects


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _rows_of(whole: dict[str, Any], origin: str) -> list[Any] | None:
    """Returns the rows in an object; None if it is a row itself.

    Raises:
        RequestError: they are spelled in another way, or stand under several names.
    """
    lists = [
        name
        for name, value in whole.items()
        if name not in _CONVERSATIONS and isinstance(value, list) and value and isinstance(value[0], _Members)
    ]
    if len(lists) == 1:
        return list(whole[lists[0]])
    if lists:
        raise RequestError(f"{origin} holds rows under {', '.join(lists)}: write each to a file of its own")
    if whole and all(isinstance(value, list) and not value for value in whole.values()):
        return []
    if whole and all(isinstance(value, list) and name not in _CONVERSATIONS for name, value in whole.items()):
        named = ", ".join([*whole][:_MAX_NAMED]) + (", ..." if len(whole) > _MAX_NAMED else "")
        raise RequestError(
            f"{origin} holds columns ({named}), not rows: write an object for each row, as pandas does "
            "with to_json(..., orient='records', lines=True)"
        )
    return None


class _Members(list[tuple[str, Any]]):
    """Names and values of a JSON object as written; json alone would keep the last of two with the same name."""


def _parse_line(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        if (bare := line.rstrip()).endswith(",") and _is_json(bare[:-1]):
            raise RowFaultError("ends with a comma, as lines of an array do") from error
        raise RowFaultError(f"is not JSON: {_words(error)}") from error


def _words(error: Exception, *, with_line: bool = False) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    place = f"line {error.lineno}, column {error.colno}" if with_line else f"column {error.colno}"
    return f"{error.msg[0].lower()}{error.msg[1:]} at {place}"


def _row(value: Any) -> dict[str, Any]:
    if not isinstance(value, _Members):
        raise RowFaultError("is not an object")
    row = _objects(value)
    for name, cell in row.items():
        if isinstance(cell, str):
            require_characters(name, cell)
    return row


def _objects(value: Any) -> Any:
    """Turns members into objects, all the way down."""
    if isinstance(value, _Members):
        members = {name: _objects(member) for name, member in value}
        if len(members) < len(value):
            raise RowFaultError(f"two values have the same name in {', '.join(name for name, _ in value)}")
        return members
    return [_objects(item) for item in value] if isinstance(value, list) else value
