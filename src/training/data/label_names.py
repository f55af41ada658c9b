"""Names of classes: what is one name however a file spells it, and what only the user can tell apart."""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from src.cli.errors import RequestError
from src.training.data.tables import Table

# More classes than this, most of them with few rows, are numbers to predict, not names of classes.
MAX_CLASSES = 1000
# How pandas writes bytes into a csv file.
_BYTES = re.compile(r"b(['\"]).*\1", re.DOTALL)
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)")
_TRUTHS = ("true", "false")
_COMMA_OR_PERCENT = re.compile(r"[+-]?\d*,\d+|[+-]?\d+([.,]\d*)?\s*%")


def label_name(label: Any) -> str:
    """Returns a class's name as rows of any kind of file give it; empty where they give none.

    0, 0.0 and "0.0" are one name, and so are text and its bytes, and text with and without blanks or invisible
    characters around it.
    """
    # pandas marks what is missing with NaN.
    if label is None or (isinstance(label, float) and not math.isfinite(label)):
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    if isinstance(label, bytes):
        return _text_name(label.decode("utf-8", "backslashreplace"))
    return _text_name(str(label))


@lru_cache(maxsize=1 << 16)
def _text_name(text: str) -> str:
    text = _stripped(text)
    if _BYTES.fullmatch(text):
        try:
            text = _stripped(ast.literal_eval(text).decode())
        except (SyntaxError, ValueError):
            # Text that only looks so.
            return text
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        return "0" if int(whole[1]) == 0 else whole[1]
    return unicodedata.normalize("NFC", text)


def _stripped(text: str) -> str:
    if text.isascii():
        return text.strip()
    seen = [at for at, character in enumerate(text) if not character.isspace() and not _is_invisible(character)]
    return text[seen[0] : seen[-1] + 1] if seen else ""


def _is_invisible(character: str) -> bool:
    """Whether it is a zero-width space, a byte order mark, a mark of direction or the like."""
    return unicodedata.category(character) == "Cf"


def one_spelling(names: Collection[str]) -> dict[str, str]:
    """Returns, for each spelling of true and false among names (`TRUE`, `True`), the one that all of them mean."""
    return {name: min(_spellings(names, name)) for name in names if name.casefold() in _TRUTHS}


def _spellings(names: Collection[str], name: str) -> list[str]:
    return [other for other in names if other.casefold() == name.casefold()]


def near_twin(name: str, names: Collection[str]) -> str | None:
    """Returns another name that differs in case, spaces or invisible characters alone, or is the same number."""
    return next((other for other in names if other != name and _folded(other) == _folded(name)), None)


def refuse_near_twins(table: Table, column: str, names: Collection[str], *, problem_type: str) -> None:
    """Refuses names that may be one name or two.

    Args:
        table: where they were found.
        column: of the labels.
        names: the different ones.
        problem_type: what the recipe has to say to keep them apart.

    Raises:
        RequestError: with both names.
    """
    truths = sorted(name for name in names if name.casefold() in _TRUTHS)
    if truths and (digits := sorted({"0", "1"} & set(names))):
        raise RequestError(
            f"{table.origin}: {column} is {truths[0]!r} in some rows and {digits[-1]!r} in others: spell them alike if "
            f"they are one class, or say that they are two with --problem_type {problem_type}"
        )
    first: dict[str, str] = {}
    for name in sorted(names):
        twin = first.setdefault(_folded(name), name)
        if twin != name and name.casefold() not in _TRUTHS:
            raise RequestError(
                f"{table.origin}: {column} is {twin!r} in some rows and {name!r} in others: spell them alike if they "
                f"are one class, or say that they are two with --problem_type {problem_type}"
            )


def refuse_unread_numbers(table: Table, column: str, labels: Sequence[str]) -> None:
    """Refuses names of classes that may be numbers with a decimal comma, or with a percent sign.

    Raises:
        RequestError: with the first of them.
    """
    written = [row for row, label in enumerate(labels) if _COMMA_OR_PERCENT.fullmatch(label)]
    if written and all(_COMMA_OR_PERCENT.fullmatch(label) or _NUMBER.fullmatch(label) for label in set(labels) - {""}):
        label = labels[written[0]]
        raise RequestError(
            f"{table.place(written[0])}: {column} is {label!r}: write it with a point and without a sign "
            f"({re.sub('[ %]', '', label).replace(',', '.')}) if it is a number to predict, or say what it is with "
            "--problem_type classification (a class) or multi_label_classification (a list of labels)"
        )


def refuse_measurements(table: Table, column: str, names: Collection[str], *, rows: int) -> None:
    """Refuses so many different names that they can hardly be classes.

    Raises:
        RequestError: they are refused.
    """
    if len(names) > MAX_CLASSES and len(names) > rows // 4:
        raise RequestError(
            f"{table.origin}: {column} has {len(names):,} different values in {rows:,} rows: name a column with "
            "classes with --label_column_name, or, if they are numbers to predict, --problem_type regression"
        )


def ordered(names: Collection[str]) -> tuple[str, ...]:
    """Returns names in order, numbers by value."""
    try:
        # The name breaks ties: 1 and 01 are two classes, and a set has no order of its own.
        values = {name: float(name) for name in names}
    except ValueError:
        values = {}
    if any(map(math.isnan, values.values())):
        values = {}
    return tuple(sorted(names, key=lambda name: (values.get(name, 0.0), name)))


@lru_cache(maxsize=1 << 16)
def _folded(name: str) -> str:
    """Returns what names have in common that people take for one."""
    visible = "".join(character for character in name if not _is_invisible(character))
    folded = " ".join(unicodedata.normalize("NFKC", visible).casefold().split())
    return repr(float(folded.replace(",", "."))) if _NUMBER.fullmatch(folded) else folded
