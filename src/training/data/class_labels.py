"""Labels as classes: their names, whatever kind of file they come from, and their order."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from src.cli.errors import RequestError
from src.training.data.label_names import (
    label_name,
    near_twin,
    one_spelling,
    ordered,
    refuse_measurements,
    refuse_near_twins,
    refuse_unread_numbers,
)
from src.training.data.labels import LabelledRows
from src.training.data.tables import Table
from src.training.recipes.recipe import CLASSIFICATION

# GLUE's label of test rows whose labels it hides.
_HIDDEN = -1

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
        if problem_type is None and column not in table.class_names:
            names = [label_name(label) for label in table.columns[column]]
            refuse_unread_numbers(table, column, names)
            refuse_near_twins(table, column, set(names), problem_type=cls.problem_type)
        return problem_type in (None, cls.problem_type)

    @classmethod
    def faults(cls, table: Table, column: str) -> dict[int, str]:
        """See Labels.faults."""
        names = table.class_names.get(column)
        faults = {}
        for row, label in enumerate(table.columns[column]):
            if names is None:
                if label_name(label) == "":
                    faults[row] = f"{column} is {label if isinstance(label, float) else 'empty'}"
            elif label != _HIDDEN and _source_name(label, names) is None:
                faults[row] = f"{column} is {label!r:.50}, which has no name: the source names {', '.join(names[:20])}"
        return faults

    @classmethod
    def read(cls, tables: Mapping[str, Table], column: str) -> tuple[Self, dict[str, LabelledRows]]:
        """See Labels.read."""
        named = {split: _named_rows(table, column) for split, table in tables.items()}
        if column not in tables["train"].class_names:
            spelling = one_spelling({name for rows in named.values() for name in rows.values()})
            named = {
                split: {row: spelling.get(name, name) for row, name in rows.items()} for split, rows in named.items()
            }
        train = named["train"].values()
        if not train:
            raise RequestError(f"{tables['train'].origin}: {column} is {_HIDDEN} in every row: its labels are hidden")
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
            raise unseen_labels(origin, unseen, self.names)
        return tuple(self._index[label] for label in labels)

    def parse(self, label: Any) -> int | None:
        """See Labels.parse."""
        return self._index.get(label_name(label))

    def text(self, label: Any) -> str:
        """See Labels.text."""
        return self.names[int(label)]

    def can_learn_from(self, labels: Sequence[Any]) -> bool:
        """See Labels.can_learn_from."""
        return len(set(labels)) > 1

    def strata(self, labels: Sequence[Any]) -> tuple[int, ...]:
        """See Labels.strata."""
        return tuple(labels)

    def untested(self, test: Sequence[Any]) -> tuple[str, ...]:
        """See Labels.untested."""
        tested = set(test)
        return tuple(name for at, name in enumerate(self.names) if at not in tested)

    def describe(self, train: Sequence[Any]) -> str:
        """See Labels.describe."""
        del train
        return f"Classes: {', '.join(self.names[:20])}"


def _named_rows(table: Table, column: str) -> dict[int, str]:
    """Returns the class name of each row whose source does not hide it."""
    names = table.class_names.get(column)
    named = {}
    for row, label in enumerate(table.columns[column]):
        if names is None:
            named[row] = label_name(label)
        elif (name := _source_name(label, names)) is not None:
            named[row] = name
    if not named:
        log.info("%s has no labels: it is left out", table.origin)
    return named


def _source_name(label: Any, names: tuple[str, ...]) -> str | None:
    """Returns the name of a class that its source has names for, by index or by name; None if it has none."""
    if isinstance(label, str):
        return label if label in names else None
    return names[int(label)] if label in range(len(names)) else None


def unseen_labels(origin: str, unseen: Sequence[str], names: Sequence[str]) -> RequestError:
    """Returns the error that names labels that no train row has, and those that train rows have."""
    twin = near_twin(unseen[0], names)
    return RequestError(
        f"{origin} has labels that no train row has: {', '.join(map(repr, unseen[:5]))}: "
        f"the train rows have {', '.join(map(repr, names[:20]))}"
        + (f"; spell {unseen[0]!r} as {twin!r} if they are one class" if twin is not None else "")
    )


def _ordered_names(table: Table, column: str, labels: Collection[str]) -> tuple[str, ...]:
    """Returns the class names: the source's own, else the labels in order (numbers by value).

    Raises:
        RequestError: there are too many to be classes.
    """
    if column in table.class_names:
        return table.class_names[column]
    found = set(labels)
    refuse_measurements(table, column, found, rows=len(labels))
    return ordered(found)
