"""Reads parquet files, with the names of classes that `datasets` keeps in their schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

from src.cli.errors import RequestError
from src.training.data.tables import Table

# pandas' index, where it is a column of the file.
_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: Path) -> Table:
    """Reads a file.

    Raises:
        RequestError: it is not a parquet file, or two columns have the same name.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
            if len(set(names)) < len(names):
                raise RequestError(f"{path.name}: two columns have the same name in {', '.join(names)}")
            columns = file.read().to_pydict()
    except (pa.ArrowException, OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise RequestError(f"{path.name} is not a complete parquet file ({words[:200]}): write it again") from error
    columns = {name: values for name, values in columns.items() if not _INDEX.fullmatch(name)}
    return Table(origin=path.name, columns=columns, class_names=_class_names(metadata.get(b"huggingface")))


def _class_names(features: bytes | None) -> dict[str, tuple[str, ...]]:
    """Returns the names of ClassLabel features by column, from the schema's metadata."""
    if features is None:
        return {}
    try:
        described = json.loads(features)["info"]["features"]
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in described.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # What another program keeps there. The labels are then those of the file.
        return {}
