"""Reads parquet files, with the names of classes that `datasets` keeps in their schema."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError, in_one_line
from src.training.data.tables import Table

# pandas' index, where it is a column of the file.
_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: Path) -> Table:
    """Reads a file.

    Raises:
        RequestError: it is not a parquet file, two columns have the same name, or a value cannot be read.
    """
    table = _table(path)
    names = table.schema.names
    if len(set(names)) < len(names):
        raise RequestError(f"{path.name}: two columns have the same name in {', '.join(names)}")
    columns = {
        name: _values(table[name], f"{path.name}, column {name}") for name in names if not _INDEX.fullmatch(name)
    }
    return Table(origin=path.name, columns=columns, class_names=_class_names(table.schema.metadata or {}))


def join_parquet(paths: Sequence[Path], joined: Path) -> None:
    """Writes the rows of several files, in this order, as one.

    Raises:
        RequestError: one of them cannot be read, or has other columns than the first.
    """
    from pyarrow import parquet

    first, *others = paths
    table = _table(first)
    schema = table.schema
    with parquet.ParquetWriter(joined, schema) as writer:
        writer.write_table(table)
        for path in others:
            table = _table(path)
            if not table.schema.equals(schema):
                raise RequestError(f"{path.name} and {first.name} differ in the names or types of their columns")
            writer.write_table(table)


def _table(path: Path) -> Any:
    """Returns a file as a pyarrow.Table."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RequestError(
            f"{path.name} is not a complete parquet file ({in_one_line(error, limit=200)}): write it again"
        ) from error


def _values(column: Any, place: str) -> list[Any]:
    """Returns a column's values: bytes that are text as text, and times that Python has no value for as Arrow's text.

    Args:
        column: a pyarrow.ChunkedArray.
        place: where it is, for messages.
    """
    import pyarrow as pa

    kind = column.type
    try:
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            # pandas stores a column of bytes so. What is no UTF-8, such as pictures, stays as it is.
            with contextlib.suppress(pa.ArrowInvalid):
                column = column.cast(pa.large_string())
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        raise RequestError(f"{place} holds text that is not UTF-8 ({error.object[:30]!r}): write it again") from error
    except (pa.ArrowException, OverflowError, ValueError) as error:
        if pa.types.is_timestamp(kind):
            # Without its zone: the instant stays, and the zone may be one that this machine does not know.
            texts = column.cast(pa.timestamp(kind.unit)).cast(pa.string()).to_pylist()
            return [text and text.replace(" ", "T") for text in texts]
        raise RequestError(f"{place} cannot be read ({' '.join(str(error).split())[:200]}): leave it out") from error


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Returns the names of ClassLabel features by column, also of lists of them, from the schema's metadata."""
    try:
        described = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        features = {name: _item(feature) for name, feature in described.items()}
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # What another program keeps there. The labels are then those of the file.
        return {}


def _item(feature: Any) -> Any:
    """Returns the feature of a list's items; any other feature as it is."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return feature["feature"] if isinstance(feature, dict) and "feature" in feature else feature
