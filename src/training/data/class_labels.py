"""Labels as classes: their names, whatever kind of file they come from, and their order."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from src.cli.errors import RequestError
from src.training.data.labels import LabelledRows
from src.training.data.tables import Table
from src.training.recipes.recipe import CLASSIFICATION

# More classes than this, most of them with few rows, are numbers to predict, not names of classes.
_MAX_CLASSES = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassLabels:
    """Labels that are class indices.

    Attributes:
        names: of the classes, by index.
    """

    names: tuple[str, ...]
    problem_type: ClassVar[str] = CLASSIFICATION

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    @property
    def class_names(self) -> tuple[str, ...]:
        """By index."""
        return self.names

    @classmethod
    def claims(cls, table: Table, column: str, *, problem_type: str | None) -> bool:
        """See Labels.claims. Any label can name a class, so the other kinds are asked first."""
        del table, column
        return problem_type in (None, cls.problem_type)

    @classmethod
    def read(cls, tables: Mapping[str, Table], column: str) -> tuple[Self, dict[str, LabelledRows]]:
        """See Labels.read."""
        named = {split: _named_rows(table, column) for split, table in tables.items()}
        train = named["train"].values()
        labels = cls(_ordered_names(tables["train"], column, train))
        splits = {
            split: LabelledRows(rows=tuple(rows), labels=labels.indices(tables[split].origin, rows.values()))
            for split, rows in named.items()
            if rows
        }
        if len(set(train)) < 2:
            raise RequestError(
                f"{tables['train'].origin} has one class only ({column}: {', '.join(sorted(set(train)))}): "
                "a classifier needs rows of at least two"
            )
        return labels, splits

    def indices(self, origin: str, labels: Collection[str]) -> tuple[int, ...]:
        """Returns the index of each label's class.

        Raises:
            RequestError: a label that no train row has.
        """
        if unseen := sorted(set(labels) - set(self._index)):
            raise RequestError(
                f"{origin} has labels that no train row has: {', '.join(map(repr, unseen[:5]))}: "
                f"the train rows have {', '.join(map(repr, self.names[:20]))}"
            )
        return tuple(self._index[label] for label in labels)

    def parse(self, label: Any) -> int | None:
        """See Labels.parse."""
        return self._index.get(_label_text(label))

    def text(self, label: int | float) -> str:
        """See Labels.text."""
        return self.names[int(label)]

    def can_learn_from(self, labels: Sequence[int | float]) -> bool:
        """See Labels.can_learn_from."""
        return len(set(labels)) > 1

    def describe(self, train: Sequence[int | float]) -> str:
        """See Labels.describe."""
        del train
        return f"Classes: {', '.join(self.names[:20])}"


def _named_rows(table: Table, column: str) -> dict[int, str]:
    """Returns the class name of each row whose source does not hide it (GLUE's -1).

    Raises:
        RequestError: a row has no label, or one that its source has no name for.
    """
    names = table.class_names.get(column)
    named = {}
    for row, label in enumerate(table.columns[column]):
        if names is not None and label == -1:
            continue
        name = _label_text(label) if names is None else _source_name(label, names)
        if name == "":
            what = label if isinstance(label, float) else "empty"
            raise RequestError(f"{table.origin}, row {row + 1}: {column} is {what}: fill it in or remove the row")
        named[row] = name
    if not named:
        log.info("%s has no labels: it is left out", table.origin)
    return named


def _source_name(label: Any, names: tuple[str, ...]) -> str:
    if label is None:
        return ""
    if not 0 <= label < len(names):
        raise RequestError(f"the label {label} has no name: the source names {', '.join(names)}")
    return names[label]


def _label_text(label: Any) -> str:
    """Returns a class's name as rows of any kind of file give it; empty where they give none."""
    # pandas marks what is missing with NaN.
    if label is None or (isinstance(label, float) and not math.isfinite(label)):
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).strip()


def _ordered_names(table: Table, column: str, labels: Collection[str]) -> tuple[str, ...]:
    """Returns the class names: the source's own, else the labels in order (numbers by value).

    Raises:
        RequestError: there are too many to be classes.
    """
    if column in table.class_names:
        return table.class_names[column]
    found = set(labels)
    if len(found) > _MAX_CLASSES and len(found) > len(labels) // 4:
        raise RequestError(
            f"{table.origin}: {column} has {len(found):,} different values in {len(labels):,} rows: name a column with "
            "classes with --label_column_name, or, if they are numbers to predict, --problem_type regression"
        )
    try:
        # The name breaks ties: 1 and 1.0 are two classes, and a set has no order of its own.
        values = {name: float(name) for name in found}
    except ValueError:
        values = {}
    if any(map(math.isnan, values.values())):
        values = {}
    return tuple(sorted(found, key=lambda name: (values.get(name, 0.0), name)))
