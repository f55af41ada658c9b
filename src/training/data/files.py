"""Reads csv, tsv, JSON and parquet files as named columns, every value as written."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from src.cli.errors import RequestError
from src.training.data.delimited import read_delimited
from src.training.data.foreign_content import GZIP, PARQUET, refuse_foreign
from src.training.data.json_rows import read_json_rows
from src.training.data.parquet_rows import read_parquet
from src.training.data.read_options import ReadOptions
from src.training.data.tables import Table
from src.training.data.text_encoding import decode

_GZIPPED = ".gz"
_PARQUET = ".parquet"
_HEAD_BYTES = 1 << 10
_TEXT_READERS: dict[str, Callable[..., Table]] = {
    ".csv": partial(read_delimited, delimiter=","),
    ".tsv": partial(read_delimited, delimiter="\t"),
    ".txt": partial(read_delimited, delimiter=None),
    ".json": partial(read_json_rows, is_document=True),
    ".jsonl": partial(read_json_rows, is_document=False),
    ".ndjson": partial(read_json_rows, is_document=False),
}
# Ends of the names of files that can be read.
FILE_KINDS = (*_TEXT_READERS, _PARQUET, *(kind + _GZIPPED for kind in _TEXT_READERS))
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def file_kind_fault(name: str) -> str | None:
    """Returns why a file of this name cannot be read, as a phrase that follows it; None if it may."""
    if name.lower().endswith(FILE_KINDS):
        return None
    if name.lower().endswith(_SPREADSHEETS):
        return 'is a spreadsheet: save it as csv ("CSV UTF-8" in Excel)'
    return f"must end in {', '.join(FILE_KINDS)}"


def read_file(path: Path, options: ReadOptions | None = None) -> Table:
    """Reads a file of one of the FILE_KINDS; text may be gzipped, with .gz at the end of the name.

    Args:
        path: of the file.
        options: what is known of it; None: nothing.

    Raises:
        RequestError: the file cannot be read, or is not of the kind that its name says.
    """
    options = options or ReadOptions()
    if (fault := file_kind_fault(path.name)) is not None:
        raise RequestError(f"{path.name} {fault}")
    if path.is_dir():
        raise RequestError(f"{path.name} is a directory: name a file")
    kind = Path(path.name.lower().removesuffix(_GZIPPED)).suffix
    if kind == _PARQUET:
        refuse_foreign(_bytes(path, limit=_HEAD_BYTES), origin=path.name, allowed=PARQUET)
        table = read_parquet(path)
    else:
        content = _content(path)
        refuse_foreign(content, origin=path.name)
        text = decode(content, origin=path.name, encoding=options.encoding)
        table = _TEXT_READERS[kind](text, origin=path.name, options=options)
    if not table.rows:
        raise RequestError(f"{path.name} has no rows: it must have a header and at least one row")
    return table


def _bytes(path: Path, *, limit: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise RequestError(f"{path.name} cannot be read: {error.strerror}") from error


def _content(path: Path) -> bytes:
    """Returns a file's bytes, unpacked if they are gzipped, whatever its name says."""
    content = _bytes(path)
    if not path.name.lower().endswith(_GZIPPED) and not content.startswith(GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path.name} is not gzipped, or not all of it is there: write it again") from error
