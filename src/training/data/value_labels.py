"""Labels as numbers to come near to: when they are that, and every refusal of labels that are not."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from src.cli.errors import RequestError
from src.training.data.tables import Table
from src.training.recipes.recipe import REGRESSION

# Not float()'s idea of a number: that takes `nan`, `infinity` and `1_000` too, which in a file are words.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# So few different numbers may as well be names, as of versions.
_FEWEST_VALUES = 3
# What GLUE writes where it hides the labels of test rows, of STS-B too, whose labels are from 0 to 5.
_HIDDEN = -1.0


def holds_values(table: Table, column: str, *, problem_type: str | None) -> bool:
    """Whether labels are numbers to come near to, and not names of classes.

    They are where the recipe says so; and where it says nothing, if some of them are no whole numbers. Numbers that are
    all whole stay classes, also where they are stored as floats, as pandas does as soon as one row lacks its label.

    Args:
        table: the train rows.
        column: with the labels.
        problem_type: the recipe's; None where it leaves that open.

    Raises:
        RequestError: only the user can tell.
    """
    names = table.class_names.get(column)
    if problem_type == REGRESSION and names is not None:
        raise RequestError(
            f"{table.origin}: {column} holds classes ({', '.join(names[:5])}) and no numbers: leave out problem_type, "
            "or name a column with numbers with --label_column_name"
        )
    if problem_type is not None or names is not None:
        return problem_type == REGRESSION
    numbers = [label_number(label) for label in table.columns[column]]
    if all(number is None or not math.isfinite(number) or number.is_integer() for number in numbers):
        return False
    _refuse_ambiguous(table, column, numbers)
    return True


def _refuse_ambiguous(table: Table, column: str, numbers: Sequence[float | None]) -> None:
    """Refuses labels with fractions among them that may yet be classes."""
    choose = "say which with --problem_type regression or classification"
    words = (row for row, number in enumerate(numbers) if number is None)
    word = next((row for row in words if _is_given(table.columns[column][row])), None)
    if word is not None:
        raise RequestError(
            f"{table.origin}, row {word + 1}: {column} is {table.columns[column][word]!r}, but in other rows a number "
            f"with a fraction: mend the row if numbers are to be predicted, or {choose}"
        )
    found = sorted({number for number in numbers if number is not None})
    if len(found) < _FEWEST_VALUES:
        raise RequestError(
            f"{table.origin}: {column} holds only {' and '.join(map(str, found))}, which may be two classes or numbers "
            f"to be predicted: {choose}"
        )


def label_values(table: Table, column: str) -> tuple[float, ...]:
    """Returns the label of each row, as float32 holds it.

    Raises:
        RequestError: a row has no label, or one that is no finite number.
    """
    values = []
    for row, label in enumerate(table.columns[column], 1):
        here = f"{table.origin}, row {row}: {column} is"
        if not _is_given(label):
            raise RequestError(f"{here} empty: fill it in or remove the row")
        number = label_number(label)
        if number is None:
            raise RequestError(
                f"{here} {label!r}, which is no number (such as 3.5): mend or remove the row, or, if the labels are "
                "classes, --problem_type classification"
            )
        with np.errstate(over="ignore"):
            value = float(np.float32(number))
        if not math.isfinite(value):
            raise RequestError(
                f"{here} {str(label)[:40]}: a label must be a finite number (below 3e38): mend or remove the row"
            )
        values.append(value)
    return tuple(values)


def are_hidden(values: Sequence[float], *, train: Sequence[float]) -> bool:
    """Whether a split's labels stand for none: all -1, where those to learn from are never below 0."""
    return all(value == _HIDDEN for value in values) and min(train) >= 0


def _is_given(label: Any) -> bool:
    return label is not None and str(label).strip() != ""


def label_number(label: Any) -> float | None:
    """Returns the value of a label, be it infinite or NaN; None where it is no number."""
    if isinstance(label, str):
        return float(label) if _NUMBER.fullmatch(label.strip()) else None
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | float | Decimal | np.number):
        return None
    try:
        return float(label)
    except OverflowError:
        return math.inf
