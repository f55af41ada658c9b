"""Files of rows as named columns: csv, tsv, json lines and parquet, every value as it was written."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.data.tables import Table

_GZIPPED = ".gz"
# A row has to lie in two blocks at the most; pyarrow's own blocks of 1 MB are less than a long document.
_BLOCK_BYTES = 64 << 20


def read_file(path: Path) -> Table:
    """Reads a .csv, .tsv, .json, .jsonl or .parquet file; text may be gzip'ed, with .gz at the end of the name.

    Raises:
        RequestError: the file cannot be read, or what is in it is not what its name says.
    """
    import pyarrow as pa

    try:
        columns = _READERS[_kind(path)](path)
    except (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error) or _is_utf16(path):
            raise RequestError(
                f"{path.name} is not UTF-8 text: save it as UTF-8 (`iconv -f LATIN1 -t UTF-8`, or the name of its own "
                "encoding in place of LATIN1)"
            ) from error
        words = " ".join(str(error).split())
        raise RequestError(f"{path.name} cannot be read as {_kind(path).lstrip('.')}: {words}") from error
    if not columns or not len(next(iter(columns.values()))):
        raise RequestError(f"{path.name} has no rows: it must have a header and at least one row")
    return Table(origin=path.name, columns=columns, class_names={})


def _kind(path: Path) -> str:
    return Path(path.name.lower().removesuffix(_GZIPPED)).suffix


def _is_utf16(path: Path) -> bool:
    """Whether a file opens with UTF-16's byte order mark, as Excel's "Unicode text" does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _read_json(path: Path) -> dict[str, list[Any]]:
    """Reads objects, one a line or in one array. Not by pyarrow, which turns strings like dates into dates."""
    content = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(_GZIPPED) else path.read_bytes()
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("["):
        rows = json.loads(text, object_pairs_hook=_unique)
    else:
        # Not by splitlines(): it also splits at U+2028 and its like, which may stand in a string as they are.
        rows = [_json_line(line, at) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every row must be an object with a value for each column")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        _require_characters(name, values)
    return columns


def _json_line(line: str, at: int) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_unique)
    except ValueError as error:
        raise ValueError(f"line {at}: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of its members; without this the last of two with one name would stand for both."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"two values have one name in {', '.join(name for name, _ in pairs)}")
    return members


def _require_characters(name: str, values: list[Any]) -> None:
    """Refuses halves of surrogate pairs: JSON can spell them, but they are no characters and no UTF-8."""
    for row, value in enumerate(values, 1):
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"row {row}: {name} holds half of a character ({value[error.start]!a})") from error


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _require_unique(file.schema_arrow.names)
        return file.read().to_pydict()


def _require_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name in {', '.join(names)}")


def _read_csv(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    from pyarrow import csv

    read = csv.ReadOptions(block_size=_BLOCK_BYTES)
    parse = csv.ParseOptions(delimiter="\t" if _kind(path) == ".tsv" else ",", newlines_in_values=True)
    with _opened(path) as file, csv.open_csv(file, read_options=read, parse_options=parse) as reader:
        names = reader.schema.names
    _require_unique(names)
    # Every value stays as written: guessing would turn the text `1999` into a number and `NA` into nothing.
    convert = csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    with _opened(path) as file:
        return csv.read_csv(file, read_options=read, parse_options=parse, convert_options=convert).to_pydict()


def _opened(path: Path) -> Any:
    """Opens a file for pyarrow, which knows a gzip'ed one by its name only if that is in small letters."""
    import pyarrow as pa

    return pa.input_stream(path, compression="gzip" if path.name.lower().endswith(_GZIPPED) else None)


_READERS = {".csv": _read_csv, ".tsv": _read_csv, ".json": _read_json, ".jsonl": _read_json, ".parquet": _read_parquet}
# Ends of the names of files that can be read.
FILE_KINDS = (*_READERS, *(kind + _GZIPPED for kind in _READERS if kind != ".parquet"))
