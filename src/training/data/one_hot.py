"""Labels in columns of their own, a 0 or a 1 in each row, as one column of lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from src.cli.errors import RequestError
from src.training.data.label_names import label_name
from src.training.data.tables import Table
from src.training.recipes.recipe import FIELDS, MULTI_LABEL, Recipe

_YES, _NO = ("1", "True", "true", "TRUE"), ("0", "False", "false", "FALSE")


def with_label_lists(tables: dict[str, Table], recipe: Recipe) -> dict[str, Table]:
    """Adds a column of lists where labels are columns of 0 and 1: those that the recipe names, or all of them.

    Args:
        tables: by split, `train` among them.
        recipe: its label column may be several names with commas between them.

    Raises:
        RequestError: a column that the recipe names is missing, or holds something else.
    """
    label, train = recipe.label_column_name, tables["train"]
    if label in train.columns:
        return tables
    names = tuple(name.strip() for name in label.split(","))
    if len(names) == 1:
        if label != FIELDS["label_column_name"].default or recipe.problem_type not in (None, MULTI_LABEL):
            return tables
        texts = (recipe.text_column_name, recipe.text_pair_column_name)
        names = tuple(name for name, values in train.columns.items() if name not in texts and _is_one_hot(values))
        # One such column alone may be anything.
        if len(names) < 2:
            return tables
    skip = recipe.skip_bad_rows
    return {split: with_lists(table, names, into=label, skip_bad_rows=skip) for split, table in tables.items()}


def _is_one_hot(values: Sequence[Any]) -> bool:
    return {label_name(value) for value in values} <= {*_YES, *_NO}


def with_lists(table: Table, names: Sequence[str], *, into: str, skip_bad_rows: bool = False) -> Table:
    """Returns the rows with one column of lists in place of columns of 0 and 1.

    Raises:
        RequestError: one of the columns is missing, or holds something else in rows that are not to be skipped.
    """
    if missing := [name for name in names if name not in table.columns]:
        raise RequestError(
            f"{table.origin} has no column {' and '.join(map(repr, missing))} for its labels: it has "
            f"{', '.join(table.columns)}"
        )
    faults: dict[int, str] = {}
    for name in names:
        for row, value in enumerate(table.columns[name]):
            if label_name(value) not in (*_YES, *_NO):
                faults.setdefault(row, f"{name} is {value!r:.50}, not 0 or 1, as a column of labels must be")
    then = "correct or remove {rows}, or leave out with --skip_bad_rows"
    table = table.refuse(dict(sorted(faults.items())), then=then, skip=skip_bad_rows)
    lists = [
        [at for at, value in enumerate(row) if label_name(value) in _YES]
        for row in zip(*(table.columns[name] for name in names), strict=True)
    ]
    others = {name: values for name, values in table.columns.items() if name not in names}
    class_names: Mapping[str, tuple[str, ...]] = {**table.class_names, into: tuple(names)}
    return dataclasses.replace(table, columns={**others, into: lists}, class_names=dict(class_names))
