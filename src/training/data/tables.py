"""Named columns of rows, those of hub datasets, and which of them are the text and the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean
from src.training.environment.hub import go_offline_unless_reachable

# Names of the same split in hub datasets.
_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "dev", "val", "valid"), "test": ("test",)}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of one split.

    Attributes:
        origin: its name in messages, such as a file's name.
        columns: values by column name, all of one length.
        class_names: names of integer labels by column, if the source has them.
    """

    origin: str
    columns: dict[str, list[Any]]
    class_names: dict[str, tuple[str, ...]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), []))


def read_hub(name: str, *, config: str | None, revision: str | None) -> dict[str, Table]:
    """Loads a dataset from the hub or its cache. Returns its splits by `train`, `validation`, `test`.

    Raises:
        RequestError: it cannot be loaded.
    """
    go_offline_unless_reachable()
    import datasets

    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, config, revision=revision)
    except (ConnectionError, OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        words = " ".join(str(error).split())
        raise RequestError(
            f"cannot load dataset {name} ({words[:300]}): connect to the hub, fill its cache, "
            "or use --dataset_name embedded:movie_reviews"
        ) from error
    splits = dataset_tables(loaded, origin=name)
    if "train" not in splits:
        raise RequestError(f"dataset {name} has no train split: it has {', '.join(loaded)}")
    return splits


def dataset_tables(loaded: Mapping[str, Any], *, origin: str) -> dict[str, Table]:
    """Returns the splits of a dataset by `train`, `validation`, `test`; other splits are left out.

    Args:
        loaded: datasets.Dataset by name of split.
        origin: name of the dataset in messages.
    """
    tables = {}
    for split, names in _SPLIT_NAMES.items():
        found = next((candidate for candidate in names if candidate in loaded), None)
        if found is not None:
            tables[split] = _dataset_table(f"{origin} ({found})", loaded[found])
    return tables


def _dataset_table(origin: str, split: Any) -> Table:
    # Of a list, the names are those of what it holds.
    features = {key: getattr(value, "feature", value) for key, value in split.features.items()}
    names = {key: tuple(value.names) for key, value in features.items() if hasattr(value, "names")}
    # As stored: the format that a dataset was saved with may make tensors of the columns, or omit some.
    columns = split.with_format("arrow")[:].to_pydict()
    return Table(origin=origin, columns=columns, class_names=names)


def choose_columns(table: Table, *, text: str | None, label: str, pair: str | None = None) -> tuple[str, str]:
    """Returns the names of the text and the label column.

    Args:
        table: the rows.
        text: the text column; None: the only other one.
        label: the label column.
        pair: the column with the second text of a pair; None if the rows are single texts.

    Raises:
        RequestError: a column is missing or named twice, or the text could be in more than one.
    """
    columns = ", ".join(table.columns)
    flags = {"--text_column_name": text, "--text_pair_column_name": pair, "--label_column_name": label}
    named = {flag: name for flag, name in flags.items() if name is not None}
    missing = [name for name in named.values() if name not in table.columns]
    if missing:
        absent = " and ".join(f"no column {name!r}{did_you_mean(name, list(table.columns))}" for name in missing)
        # Pairs are mentioned only to those who use them.
        *others, last = (flag for flag in flags if flag in named or "pair" not in flag)
        raise RequestError(
            f"{table.origin} has {absent}: it has {columns} (name them with {', '.join(others)} and {last})"
        )
    for name in named.values():
        twice = [flag for flag, other in named.items() if other == name]
        if len(twice) > 1:
            raise RequestError(f"{' and '.join(twice)} both name {name!r}: each needs a column of its own")
    if text is not None:
        return text, label
    others = [name for name, values in table.columns.items() if name not in (label, pair) and _is_text(values)]
    if len(others) != 1:
        raise RequestError(
            f"{table.origin} has the columns {columns}: name the one with text with --text_column_name"
            + (", and, if the rows are pairs of texts, the other with --text_pair_column_name" if pair is None else "")
        )
    return others[0], label


def _is_text(values: Sequence[Any]) -> bool:
    """Whether a column holds text: strings, some with more than one word."""
    head = values[:1000]
    return all(isinstance(value, str) for value in head) and any(" " in value.strip() for value in head)
