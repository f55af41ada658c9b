"""Labels as numbers to predict (regression): when they are that, and every refusal of labels that are not."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

import numpy as np

from src.cli.errors import RequestError
from src.training.data.labels import LabelledRows
from src.training.data.tables import Table
from src.training.recipes.recipe import REGRESSION

# Stricter than float(), which takes `nan`, `infinity` and `1_000` too: in a file those are words.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# So few different numbers may as well be names, as of versions.
_MIN_VALUES = 3
# GLUE's label of test rows whose labels it hides, in STS-B too, whose labels are from 0 to 5.
_HIDDEN = -1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValueLabels:
    """Labels that are numbers.

    Attributes:
        column: its name, which is that of the model's one output.
    """

    column: str
    problem_type: ClassVar[str] = REGRESSION

    @property
    def class_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @classmethod
    def claims(cls, table: Table, column: str, *, problem_type: str | None) -> bool:
        """See Labels.claims.

        Labels are numbers to predict if the recipe says so, or if it says nothing and some of them are not whole
        numbers. Numbers that are all whole are classes, even if they are stored as floats, as pandas does as soon as
        one row lacks its label.
        """
        names = table.class_names.get(column)
        if problem_type == cls.problem_type and names is not None:
            raise RequestError(
                f"{table.origin}: {column} holds classes ({', '.join(names[:5])}), not numbers: leave out "
                "problem_type, or name a column with numbers with --label_column_name"
            )
        if problem_type is not None or names is not None:
            return problem_type == cls.problem_type
        numbers = [_number(label) for label in table.columns[column]]
        if all(number is None or not math.isfinite(number) or number.is_integer() for number in numbers):
            return False
        _refuse_ambiguous(table, column, numbers)
        return True

    @classmethod
    def faults(cls, table: Table, column: str) -> dict[int, str]:
        """See Labels.faults."""
        found = {row: _fault(label) for row, label in enumerate(table.columns[column])}
        return {row: f"{column} is {fault}" for row, fault in found.items() if fault is not None}

    @classmethod
    def read(cls, tables: Mapping[str, Table], column: str) -> tuple[Self, dict[str, LabelledRows]]:
        """See Labels.read."""
        values = {split: tuple(map(_float32, table.columns[column])) for split, table in tables.items()}
        train = values["train"]
        if len(set(train)) < 2:
            raise RequestError(
                f"{tables['train'].origin}: {column} is {train[0]:g} in every row: there is nothing to learn"
            )
        splits = {}
        for split, found in values.items():
            if split != "train" and _are_hidden(found, train=train):
                log.info("%s has no labels: it is left out", tables[split].origin)
            else:
                splits[split] = LabelledRows(rows=range(len(found)), labels=found)
        return cls(column), splits

    def parse(self, label: Any) -> float | None:
        """See Labels.parse."""
        number = _number(label)
        return number if number is not None and math.isfinite(number) else None

    def text(self, label: Any) -> str:
        """See Labels.text."""
        return repr(label)

    def can_learn_from(self, labels: Sequence[Any]) -> bool:
        """See Labels.can_learn_from."""
        return len(set(labels)) > 1

    def strata(self, labels: Sequence[Any]) -> tuple[int, ...]:
        """See Labels.strata."""
        return (0,) * len(labels)

    def untested(self, test: Sequence[Any]) -> tuple[str, ...]:
        """See Labels.untested."""
        del test
        return ()

    def describe(self, train: Sequence[Any]) -> str:
        """See Labels.describe."""
        return (
            f"Labels: numbers from {min(train):g} to {max(train):g} "
            "(regression; --problem_type classification treats them as classes)"
        )


def _refuse_ambiguous(table: Table, column: str, numbers: Sequence[float | None]) -> None:
    """Refuses labels with fractions among them that may yet be classes."""
    choose = "say which with --problem_type regression or classification"
    others = (row for row, number in enumerate(numbers) if number is None)
    word = next((row for row in others if _is_given(table.columns[column][row])), None)
    if word is not None:
        raise RequestError(
            f"{table.place(word)}: {column} is {table.columns[column][word]!r}, but in other rows a number "
            f"with a fraction: correct the row if these are numbers to predict, or {choose}"
        )
    found = sorted({number for number in numbers if number is not None})
    if len(found) < _MIN_VALUES:
        raise RequestError(
            f"{table.origin}: {column} holds only {' and '.join(map(str, found))}, which may be two classes or numbers "
            f"to predict: {choose}"
        )


def _fault(label: Any) -> str | None:
    """Returns why a label cannot be learnt, as a phrase; None if it can."""
    if not _is_given(label):
        return "empty"
    if _number(label) is None:
        return f"{label!r:.50}, which is not a number such as 3.5 (--problem_type classification if it is a class)"
    if not math.isfinite(_float32(label)):
        return f"{str(label)[:40]}: a label must be a finite number (below 3e38)"
    return None


def _float32(label: Any) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(_number(label)))


def _are_hidden(values: Sequence[float], *, train: Sequence[float]) -> bool:
    """Whether the labels of a split are hidden: all are -1, and the train rows have none below 0."""
    return all(value == _HIDDEN for value in values) and min(train) >= 0


def _is_given(label: Any) -> bool:
    return label is not None and str(label).strip() != ""


def _number(label: Any) -> float | None:
    """Returns the value of a label, infinite and NaN included; None where it is not a number."""
    if isinstance(label, str):
        return float(label) if _NUMBER.fullmatch(label.strip()) else None
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | float | Decimal | np.number):
        return None
    try:
        return float(label)
    except OverflowError:
        return math.inf
