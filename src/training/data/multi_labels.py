"""Labels as lists: any number of classes a row (multi-label classification), however a file writes them."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from src.cli.errors import RequestError
from src.training.data.class_labels import unseen_labels
from src.training.data.label_names import label_name, ordered, refuse_measurements, refuse_near_twins
from src.training.data.labels import LabelledRows
from src.training.data.row_faults import RowFaultError, is_blank
from src.training.data.tables import Table
from src.training.recipes.recipe import MULTI_LABEL

# What pandas and datasets write into a csv file for a list, a set or an array.
_WRITTEN_LIST = re.compile(r"\s*(\[.*\]|\{.*\}|\(.*\)|set\(\))\s*", re.DOTALL)
# Between names in one cell: the first that occurs in a column.
_DELIMITERS = ("|", ";", ",")
_MAX_NAMED = 20


@dataclass(frozen=True)
class MultiLabels:
    """Labels of which a row has any number: 1.0 for each that it has, 0.0 for each that it has not.

    Attributes:
        names: of the labels, by index.
    """

    names: tuple[str, ...]
    problem_type: ClassVar[str] = MULTI_LABEL

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    @property
    def class_names(self) -> tuple[str, ...]:
        """By index."""
        return self.names

    @classmethod
    def claims(cls, table: Table, column: str, *, problem_type: str | None) -> bool:
        """See Labels.claims. Lists are claimed, and text if all of it is lists as Python or JSON write them."""
        if problem_type == cls.problem_type:
            return True
        labels = [label for label in table.columns[column] if label is not None and label != ""]
        lists = any(_is_list(label) for label in labels)
        if problem_type is not None and lists:
            raise RequestError(
                f"{table.origin}: {column} holds lists of labels: leave out --problem_type, or say "
                f"--problem_type {cls.problem_type}"
            )
        written = bool(labels) and all(isinstance(label, str) and _WRITTEN_LIST.fullmatch(label) for label in labels)
        if problem_type is not None or not (lists or written):
            return False
        listed, _ = _listed(table, column)
        rows = [row for row in listed.values() if not _is_indicator(row)]
        refuse_near_twins(table, column, {name for row in rows for name in row}, problem_type=cls.problem_type)
        return True

    @classmethod
    def faults(cls, table: Table, column: str) -> dict[int, str]:
        """See Labels.faults."""
        _, faults = _listed(table, column)
        return faults

    @classmethod
    def read(cls, tables: Mapping[str, Table], column: str) -> tuple[Self, dict[str, LabelledRows]]:
        """See Labels.read."""
        listed = {split: [*_listed(table, column)[0].values()] for split, table in tables.items()}
        train = tables["train"]
        if _are_indicators(listed["train"]):
            names = tuple(f"LABEL_{at}" for at in range(len(listed["train"][0])))
            listed = {
                split: _named_by_place(tables[split], column, rows, names=names) for split, rows in listed.items()
            }
        else:
            found = {name for row in listed["train"] for name in row}
            refuse_measurements(train, column, found, rows=len(listed["train"]))
            names = train.class_names.get(column) or ordered(found)
        labels = cls(names)
        splits = {
            split: LabelledRows(rows=range(len(rows)), labels=labels.indicators(tables[split].origin, rows))
            for split, rows in listed.items()
        }
        if not labels.can_learn_from(splits["train"].labels):
            raise RequestError(
                f"{train.origin}: {column} holds the same labels in every row ({', '.join(names) or 'none'}): "
                "there is nothing to learn"
            )
        return labels, splits

    def indicators(self, origin: str, rows: Iterable[Sequence[str]]) -> tuple[tuple[float, ...], ...]:
        """Returns 1.0 and 0.0 for each label of each row.

        Raises:
            RequestError: a label that no train row has.
        """
        # Rows with the same labels share a tuple: of many labels, one each would be most of the memory.
        known: dict[frozenset[str], tuple[float, ...]] = {}
        found = []
        for row in map(frozenset, rows):
            if row not in known:
                if unseen := sorted(row - set(self._index)):
                    raise unseen_labels(origin, unseen, self.names)
                known[row] = tuple(float(name in row) for name in self.names)
            found.append(known[row])
        return tuple(found)

    def parse(self, label: Any) -> tuple[float, ...] | None:
        """See Labels.parse."""
        table = Table(origin="", columns={"": [label]}, class_names={})
        listed, faults = _listed(table, "")
        if faults:
            return None
        rows = [*listed.values()]
        try:
            if len(rows[0]) == len(self.names) and _is_indicator(rows[0]) and not set(rows[0]) <= set(self.names):
                rows = _named_by_place(table, "", rows, names=self.names)
            return self.indicators("", rows)[0]
        except RequestError:
            return None

    def text(self, label: Any) -> str:
        """See Labels.text."""
        return json.dumps(sorted(name for name, there in zip(self.names, label, strict=True) if there))

    def can_learn_from(self, labels: Sequence[Any]) -> bool:
        """See Labels.can_learn_from."""
        return len(set(labels)) > 1

    def strata(self, labels: Sequence[Any]) -> tuple[int, ...]:
        """See Labels.strata: the rarest label of a row, as it is the first to be missing somewhere."""
        rows = [[at for at, there in enumerate(label) if there] for label in labels]
        counts = Counter(at for row in rows for at in row)
        return tuple(min(row, key=lambda at: (counts[at], at), default=len(self.names)) for row in rows)

    def untested(self, test: Sequence[Any]) -> tuple[str, ...]:
        """See Labels.untested."""
        tested = {at for label in set(test) for at, there in enumerate(label) if there}
        return tuple(name for at, name in enumerate(self.names) if at not in tested)

    def describe(self, train: Sequence[Any]) -> str:
        """See Labels.describe."""
        mean = sum(map(sum, train)) / len(train)
        return f"Labels: {', '.join(self.names[:_MAX_NAMED])} (multi-label classification: {mean:.3g} a row)"


def _is_list(label: Any) -> bool:
    return isinstance(label, list | tuple | set | frozenset)


def _listed(table: Table, column: str) -> tuple[dict[int, tuple[str, ...]], dict[int, str]]:
    """Returns the names of each row's labels, and what is wrong with rows that hold something else, both by row."""
    values, names = table.columns[column], table.class_names.get(column)
    texts = [value for value in values if isinstance(value, str) and not _WRITTEN_LIST.fullmatch(value)]
    delimiter = next((sign for sign in _DELIMITERS if any(sign in text for text in texts)), None)
    rows: dict[int, tuple[str, ...]] = {}
    faults: dict[int, str] = {}
    for row, value in enumerate(values):
        try:
            members = _members(value, delimiter=delimiter)
            if names is not None:
                members = [_source_name(member, names) for member in members]
            rows[row] = tuple(map(label_name, members))
            if "" in rows[row]:
                raise RowFaultError(f"holds a label without a name ({value!r:.80})")
        except RowFaultError as fault:
            rows.pop(row, None)
            faults[row] = f"{column} {fault}"
    return rows, faults


def _members(value: Any, *, delimiter: str | None) -> list[Any]:
    if is_blank(value):
        raise RowFaultError("is empty (write [] for a row without labels)")
    if isinstance(value, str) and _WRITTEN_LIST.fullmatch(value):
        try:
            value = [] if value.strip() == "set()" else ast.literal_eval(value.strip())
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise RowFaultError(f"is {value[:80]!r}, which is no list of labels: write it like ['a', 'b']") from error
    elif isinstance(value, str):
        return value.split(delimiter) if delimiter else [value]
    members = list(value) if _is_list(value) else [value]
    if any(_is_list(member) or isinstance(member, dict) for member in members):
        raise RowFaultError(f"is {value!r:.80}: write the labels as a list of names, such as ['a', 'b']")
    return members


def _source_name(member: Any, names: tuple[str, ...]) -> str:
    if not isinstance(member, int) or not 0 <= member < len(names):
        raise RowFaultError(f"holds the label {member!r:.80}, which has no name: there are {', '.join(names[:20])}")
    return names[member]


def _is_indicator(row: Sequence[str]) -> bool:
    """Whether a list holds a 0 or a 1 for each label, in place of names."""
    return len(row) > 1 and set(row) <= {"0", "1", "False", "True"}


def _are_indicators(rows: Sequence[Sequence[str]]) -> bool:
    # Lists of names differ in length, or hold no name twice; of three or more places two always hold the same.
    return all(_is_indicator(row) for row in rows) and len({len(row) for row in rows}) == 1


def _named_by_place(
    table: Table, column: str, rows: Sequence[Sequence[str]], *, names: Sequence[str]
) -> list[tuple[str, ...]]:
    for at, row in enumerate(rows):
        if len(row) != len(names) or not _is_indicator(row):
            raise RequestError(
                f"{table.place(at)}: {column} must hold {len(names)} zeros and ones, as the train rows do"
            )
    return [tuple(name for name, value in zip(names, row, strict=True) if value in ("1", "True")) for row in rows]
