"""Reads text whose lines are parted by a delimiter: as Python's csv module does, or not at all."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from src.cli.errors import RequestError
from src.training.data.read_options import ReadOptions
from src.training.data.row_faults import refuse_rows
from src.training.data.tables import Table

_DELIMITERS = (",", "\t", ";", "|")
_NAMES = {"\t": "tab", " ": "space"}
_NUL = "holds the character NUL, as damaged files do, and those of another encoding (--encoding)"
_JSON = re.compile(r'\s*(\[\s*)?\{\s*"[^"]*"\s*:')
# Excel's own first line: it names the delimiter.
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")
# A column of more numbers than this may hold any other number, too; and in fewer rows than that not all classes occur.
_FEW_VALUES, _FEW_ROWS = 20, 50

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """A file as one delimiter parts it.

    Attributes:
        delimiter: between values.
        names: of the columns.
        rows: values as written, as many as columns in each.
        lines: on which each row begins.
        faults: what is wrong with other rows, by the line on which they begin.
        quote_fault: what is wrong with the quotes: a phrase that begins with the line. What follows it is not known.
    """

    delimiter: str
    names: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    quote_fault: str | None = None

    @property
    def is_clean(self) -> bool:
        return not self.faults and self.quote_fault is None


def read_delimited(text: str, *, origin: str, delimiter: str | None, options: ReadOptions) -> Table:
    """Reads a header and rows.

    Args:
        text: of the file.
        origin: its name in messages.
        delimiter: the usual one of such files; None: there is none, and without one the file is no table.
        options: what the user says of the file.

    Raises:
        RequestError: the text is not such a table, or only the user can tell what its rows are.
    """
    if marked := _SEPARATOR_LINE.match(text):
        # The line stays, empty, so that lines keep their numbers.
        options = options if options.delimiter else replace(options, delimiter=marked[1])
        text = "\n" + text[marked.end() :]
    if _JSON.match(text):
        raise RequestError(f"{origin} holds JSON: end its name in .jsonl, or .json if all of it is one array")
    parsed = _parse_as_written(text, origin=origin, delimiter=delimiter, options=options)
    if parsed.quote_fault is not None:
        raise RequestError(f"{origin}, {parsed.quote_fault}")
    then = f"correct {{rows}} (quote values that hold a {_named(parsed.delimiter)}), or leave out with --skip_bad_rows"
    refuse_rows(origin, parsed.faults, then=then, unit="line", skip=options.skip_bad_rows)
    return Table(origin=origin, columns=_columns(parsed, origin), class_names={}, lines=parsed.lines)


def _parse_as_written(text: str, *, origin: str, delimiter: str | None, options: ReadOptions) -> _Parsed:
    """Parses by the delimiter that is given, or usual, or the only one that makes a table of the text."""
    usual = options.delimiter or delimiter
    first = None if usual is None else _parse(text, usual, origin=origin, quoting=options.quoting)
    if first is not None and (options.delimiter or (first.is_clean and len(first.names) > 1)):
        return first
    others = [other for other in _DELIMITERS if other != usual and _parts_header(text, other, options.quoting)]
    found = [_parse(text, other, origin=origin, quoting=options.quoting) for other in others]
    clean = [parsed for parsed in found if parsed.is_clean]
    if len(clean) == 1:
        log.info("%s: values are parted by a %s", origin, _named(clean[0].delimiter))
        return clean[0]
    if first is not None and (not found or len(first.names) > 1):
        return first
    if not found:
        raise RequestError(
            f"{origin} has one column only: its first line must name columns, such as text and label, parted by "
            "commas, tabs, semicolons or bars; name another delimiter with --delimiter"
        )
    if len(clean) > 1 or len(found) > 1:
        named = " or a ".join(_named(parsed.delimiter) for parsed in clean or found)
        raise RequestError(f"{origin} may be parted by a {named}: name it with --delimiter")
    (only,) = found
    fault = only.quote_fault or "line {}: {}".format(*next(iter(only.faults.items())))
    raise RequestError(
        f"{origin} looks as if its values are parted by a {_named(only.delimiter)}, but not all of it: {fault}; "
        "correct it, or name the delimiter with --delimiter"
    )


def _parts_header(text: str, delimiter: str, quoting: str | None) -> bool:
    try:
        return len(next((row for row in _reader(text, delimiter, quoting=quoting) if row), [])) > 1
    except csv.Error:
        return False


def _named(delimiter: str) -> str:
    return _NAMES.get(delimiter, repr(delimiter))


def _reader(text: str, delimiter: str, *, quoting: str | None) -> Any:
    # The module's default refuses values above 128 kB.
    csv.field_size_limit(sys.maxsize)
    lines = io.StringIO(text, newline="")
    if quoting == "none":
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _parse(text: str, delimiter: str, *, origin: str, quoting: str | None) -> _Parsed:
    parsed = _parse_rows(text, delimiter, quoting=quoting)
    if quoting is None and parsed.quote_fault is None:
        # Both readings are whole: only the user can tell which is meant.
        return replace(parsed, quote_fault=_swallowed_rows(parsed))
    if quoting is None and delimiter == "\t":
        # Files parted by tabs are often written without quoting, and their texts hold quotes.
        plain = _parse_rows(text, delimiter, quoting="none")
        if plain.is_clean and not any(_is_quoted(value) for row in plain.rows for value in row):
            log.info("%s: quotes are characters here, as with --quoting none (%s)", origin, parsed.quote_fault)
            return plain
    return parsed


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value.startswith('"') and value.endswith('"')


def _parse_rows(text: str, delimiter: str, *, quoting: str | None) -> _Parsed:
    reader = _reader(text, delimiter, quoting=quoting)
    parsed = _Parsed(delimiter=delimiter)
    line = 1
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip() and len(parsed.names) > 1):
                pass  # An empty line.
            elif not parsed.names:
                parsed.names.extend(name.strip() for name in row)
                parsed.faults.update({line: _NUL} if "\0" in "".join(row) else {})
            elif any("\0" in value for value in row):
                parsed.faults[line] = _NUL
            elif (fitted := _fit(row, parsed.names)) is not None:
                parsed.rows.append(fitted)
                parsed.lines.append(line)
            else:
                parsed.faults[line] = f"{_count(len(row), 'value')} for {_count(len(parsed.names), 'column')}"
            line = reader.line_num + 1
    except csv.Error as error:
        return replace(parsed, quote_fault=_quote_fault(line, reader.line_num, unclosed="end of data" in str(error)))
    return parsed


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _fit(row: list[str], names: Sequence[str]) -> list[str] | None:
    """Returns a row with a value for each name; None if it has others. Delimiters at the end of lines do no harm."""
    if len(row) == len(names):
        return row
    if len(row) > len(names):
        return row[: len(names)] if not any(row[len(names) :]) else None
    return row + [""] * (len(names) - len(row)) if not any(names[len(row) :]) else None


def _quote_fault(begin: int, end: int, *, unclosed: bool) -> str:
    if unclosed:
        what = "a quote opens here and is never closed"
    elif begin == end:
        what = "text follows a closing quote"
    else:
        what = f"a quote opens here, and text follows the next one, in line {end}"
    return f"line {begin}: {what}: write a quote in a quoted value twice, or --quoting none if quotes are characters"


def _swallowed_rows(parsed: _Parsed) -> str | None:
    """Returns a fault if a value of several lines holds what looks like rows of the same file.

    A stray quote at the beginning of one row and another at the end of a later one make all between them one value.
    """
    width = len(parsed.names)
    long = [at for at, row in enumerate(parsed.rows) if width > 1 and any("\n" in value for value in row)]
    if not long:
        return None
    skipped = set(long)
    short = [row for at, row in enumerate(parsed.rows) if at not in skipped]
    columns = [_Column.of([row[at] for row in short]) for at in range(width)]
    for at in long:
        for value_at, value in enumerate(parsed.rows[at]):
            first, *rest = value.split("\n")
            if not rest:
                continue
            # The first line begins with the values before this one, and the last one ends with those after it.
            before, after = parsed.rows[at][:value_at], parsed.rows[at][value_at + 1 :]
            lines = [line.rstrip("\r").split(parsed.delimiter) for line in (first, *rest)]
            lines[0], lines[-1] = [*before, *lines[0]], [*lines[-1], *after]
            for offset, line in enumerate(lines):
                begin, end = value_at + 1 if offset == 0 else 0, value_at if offset == len(rest) else width
                others = range(begin, end)
                if len(line) == width and any(columns[other].may_hold(line[other]) for other in others):
                    return (
                        f"line {parsed.lines[at]}: a quoted value of {len(lines)} lines holds what looks like rows "
                        "of this file: remove the stray quote, or say --quoting none if quotes are characters, "
                        "minimal if the value is meant so"
                    )
    return None


@dataclass(frozen=True)
class _Column:
    """The values of a column in rows of one line."""

    values: frozenset[str]
    is_measured: bool
    is_small: bool

    @classmethod
    def of(cls, values: Sequence[str]) -> _Column:
        distinct = frozenset(values)
        is_measured = len(distinct) > _FEW_VALUES and all(map(_is_number, distinct))
        return cls(distinct, is_measured=is_measured, is_small=len(values) < _FEW_ROWS)

    def may_hold(self, value: str) -> bool:
        """Whether a value is one of this column, as far as its other rows tell."""
        if self.is_small and value and not any(map(str.isspace, value)):
            return True
        return bool(value.strip()) and (value in self.values or (self.is_measured and _is_number(value)))


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _columns(parsed: _Parsed, origin: str) -> dict[str, list[Any]]:
    """Returns the columns by name, without those that have no name: pandas' index, and empty ones.

    Raises:
        RequestError: two have the same name, or one without a name holds more than that.
    """
    columns: dict[str, list[Any]] = {}
    twice = [name for at, name in enumerate(parsed.names) if name and name in parsed.names[:at]]
    if twice:
        raise RequestError(f"{origin}: two columns have the same name {twice[0]!r} in {', '.join(parsed.names)}")
    for at, name in enumerate(parsed.names):
        values = [row[at] for row in parsed.rows]
        if name:
            columns[name] = values
            continue
        for row, value in enumerate(values):
            if value.strip() and not (at == 0 and value.isdecimal()):
                raise RequestError(
                    f"{origin}, line {parsed.lines[row]}: {value!r:.50} is in column {at + 1}, which has no name: "
                    "name it in the first line, or quote values that hold the delimiter"
                )
    return columns
