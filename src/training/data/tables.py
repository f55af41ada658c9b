"""Named columns of rows, those of hub datasets, and which of them are the text and the label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from src.cli.errors import RequestError, in_one_line
from src.cli.parser import did_you_mean
from src.training.data.row_faults import refuse_rows
from src.training.environment.hub import go_offline_unless_reachable

# Names of the same split in hub datasets.
_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "dev", "val", "valid"), "test": ("test",)}

_UNNAMED = re.compile(r"Unnamed: \d+")
# Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese part no words.
_WORDS_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]{4}"
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of one split.

    Attributes:
        origin: its name in messages, such as a file's name.
        columns: values by column name, all of one length.
        class_names: names of integer labels by column, if the source has them.
        lines: where in its source each row is; none: they are all its rows, in order.
        unit: what `lines` counts, for messages: lines or rows, from 1.
    """

    origin: str
    columns: dict[str, list[Any]]
    class_names: dict[str, tuple[str, ...]]
    lines: Sequence[int] = ()
    unit: str = "line"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), []))

    @property
    def numbers(self) -> Sequence[int]:
        """Where in its source each row is, in `numbered` units."""
        return self.lines or range(1, self.rows + 1)

    @property
    def numbered(self) -> str:
        """What `numbers` count: lines or rows."""
        return self.unit if self.lines else "row"

    def place(self, row: int) -> str:
        """Returns where a row is, for messages; `row` is counted from 0."""
        return f"{self.origin}, {self.numbered} {self.numbers[row]}"

    def refuse(self, faults: Mapping[int, str], *, then: str, skip: bool = False) -> Table:
        """Refuses all bad rows in one sentence; see `refuse_rows`.

        Args:
            faults: what is wrong, by row, counted from 0.
            then: what to do.
            skip: leave the rows out instead.

        Returns:
            The other rows.

        Raises:
            RequestError: there are bad rows that are not skipped, or no others.
        """
        if not faults:
            return self
        numbers = self.numbers
        refuse_rows(
            self.origin,
            {numbers[row]: fault for row, fault in faults.items()},
            then=then,
            unit=self.numbered,
            skip=skip and len(faults) < self.rows,
        )
        kept = [row for row in range(self.rows) if row not in faults]
        return replace(
            self,
            columns={name: [values[row] for row in kept] for name, values in self.columns.items()},
            lines=[numbers[row] for row in kept],
            unit=self.numbered,
        )


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
        raise RequestError(
            f"cannot load dataset {name} ({in_one_line(error, limit=300)}): connect to the hub, fill its cache, "
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
    """Returns the names of the text and the label column; see `choose_text`."""
    return choose_text(table, text=text, label=label, pair=pair), label


def choose_text(table: Table, *, text: str | None, label: str | None, pair: str | None = None) -> str:
    """Returns the name of the text column.

    Args:
        table: the rows.
        text: the text column; None: the only other one.
        label: the label column; None: there is none.
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
        return text
    other = {name: table.columns[name] for name in table.columns if name not in (label, pair) and not _is_index(name)}
    texts = [name for name, values in other.items() if _is_text(values, is_only=len(other) == 1)]
    if len(texts) != 1:
        raise RequestError(
            f"{table.origin} has the columns {columns}: name the one with text with --text_column_name"
            + (", and, if the rows are pairs of texts, the other with --text_pair_column_name" if pair is None else "")
        )
    return texts[0]


def _is_index(name: str) -> bool:
    """Whether a column is what pandas makes of an index that was written to a file."""
    return _UNNAMED.fullmatch(name) is not None


def _is_text(values: Sequence[Any], *, is_only: bool) -> bool:
    """Whether a column holds text: most values are strings, some with more than one word.

    Args:
        values: of the column.
        is_only: whether no other column could be the text: then one letter will do.
    """
    head = values[:1000]
    strings = [value for value in head if isinstance(value, str)]
    if 2 * len(strings) < sum(value is not None for value in head):
        return False
    if is_only:
        return any(character.isalpha() for value in strings for character in value)
    return any(len(value.split()) > 1 or _WORDS_WITHOUT_SPACES.search(value) for value in strings)
