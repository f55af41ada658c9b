"""Several columns of text as one, as run_classification.py joins its --text_column_names."""

from __future__ import annotations

import dataclasses

from src.cli.errors import RequestError
from src.training.data.tables import Table


def with_joined_columns(table: Table, name: str | None, *, delimiter: str) -> Table:
    """Adds the column `a,b`: the text of column a, the delimiter, and that of column b, without what is empty.

    Args:
        table: the rows.
        name: of the text column; nothing is added where there is such a column, or no comma in it.
        delimiter: between the texts.

    Raises:
        RequestError: one of the columns is missing, or does not hold text.
    """
    parts = [part.strip() for part in (name or "").split(",")]
    if name is None or name in table.columns or len(parts) == 1:
        return table
    if missing := [part for part in parts if part not in table.columns]:
        absent = " and ".join(map(repr, missing))
        raise RequestError(f"{table.origin} has no column {absent} to join: it has {', '.join(table.columns)}")
    rows = []
    for row, values in enumerate(zip(*(table.columns[part] for part in parts), strict=True), 1):
        if wrong := [value for value in values if not isinstance(value, str | None)]:
            raise RequestError(f"{table.origin}, row {row}: {wrong[0]!r:.50} is not text: name columns with text")
        rows.append(delimiter.join(value for value in values if value is not None and value.strip()))
    return dataclasses.replace(table, columns={**table.columns, name: rows})
