"""Several columns of text as one, as run_classification.py joins its --text_column_names."""

from __future__ import annotations

import dataclasses

from src.cli.errors import RequestError
from src.training.data.row_faults import is_blank
from src.training.data.tables import Table


def with_joined_columns(table: Table, name: str | None, *, delimiter: str, skip_bad_rows: bool = False) -> Table:
    """Adds the column `a,b`: the text of column a, the delimiter, and that of column b, without what is empty.

    Args:
        table: the rows.
        name: of the text column; nothing is added where there is such a column, or no comma in it.
        delimiter: between the texts.
        skip_bad_rows: leaves out rows that hold something else than text, in place of a refusal.

    Raises:
        RequestError: one of the columns is missing, or does not hold text.
    """
    parts = [part.strip() for part in (name or "").split(",")]
    if name is None or name in table.columns or len(parts) == 1:
        return table
    if missing := [part for part in parts if part not in table.columns]:
        absent = " and ".join(map(repr, missing))
        raise RequestError(f"{table.origin} has no column {absent} to join: it has {', '.join(table.columns)}")
    faults: dict[int, str] = {}
    for part in parts:
        for row, value in enumerate(table.columns[part]):
            if not (isinstance(value, str) or is_blank(value)):
                faults.setdefault(row, f"{part} is {value!r:.50}, not text")
    kept = table.refuse(
        dict(sorted(faults.items())),
        then="name columns with text, or correct or remove {rows}, or leave out with --skip_bad_rows",
        skip=skip_bad_rows,
    )
    columns = (kept.columns[part] for part in parts)
    joined = [delimiter.join(text for text in row if not is_blank(text)) for row in zip(*columns, strict=True)]
    return dataclasses.replace(kept, columns={**kept.columns, name: joined})
