"""From a recipe to labelled rows: texts or pairs of them, with classes or values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.cli.errors import RequestError
from src.training.data.class_labels import ClassLabels
from src.training.data.column_synonyms import suggest_renaming
from src.training.data.conversation_columns import claims, could_be_continued
from src.training.data.files import read_file
from src.training.data.joined_columns import with_joined_columns
from src.training.data.labels import Label, LabelledRows, Labels
from src.training.data.multi_labels import MultiLabels
from src.training.data.one_hot import with_label_lists
from src.training.data.read_options import ReadOptions
from src.training.data.row_faults import is_blank
from src.training.data.saved_dataset import read_saved_dataset, saved_dataset_folder
from src.training.data.tables import Table, choose_columns, read_hub
from src.training.data.value_labels import ValueLabels
from src.training.embedded import locate
from src.training.recipes.recipe import TEXT_GENERATION, Recipe

# The first that claims a label column reads it.
KINDS: tuple[type[Labels], ...] = (MultiLabels, ValueLabels, ClassLabels)
# What programs write for a missing value, and hardly anyone as the name of a class.
_MISSING = ("nan", "NaN", "NAN", "null", "NULL", "<NA>", "NaT", "#N/A")
_THEN = "fill in, correct or remove such rows, or leave them out with --skip_bad_rows"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled texts of one split.

    Attributes:
        labels: class indices, the values of a regression, or 1.0 and 0.0 for each of many labels.
        text_pairs: the second text of each row; None if the rows are single texts.
    """

    split: str
    texts: tuple[str, ...]
    labels: tuple[Label, ...]
    text_pairs: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def class_indices(self) -> tuple[int, ...]:
        """The labels of a classifier."""
        return tuple(int(label) for label in self.labels if not isinstance(label, tuple))

    @property
    def whole_texts(self) -> tuple[str, ...]:
        """What makes a row the same as another: its text, or both texts of a pair in either order."""
        if self.text_pairs is None:
            return self.texts
        both = (sorted(pair, key=str.lower) for pair in zip(self.texts, self.text_pairs, strict=True))
        # The separator is a word that no text has: "a b" with "c" is not "a" with "b c".
        return tuple(f"{first} \0 {second}" for first, second in both)

    @property
    def contents(self) -> tuple[tuple[str | Label, ...], ...]:
        """All that a row holds."""
        columns = (self.texts, self.labels) if self.text_pairs is None else (self.texts, self.text_pairs, self.labels)
        return tuple(zip(*columns, strict=True))

    def select(self, rows: Sequence[int] | np.ndarray, *, split: str | None = None) -> Examples:
        """Returns these rows, in this order."""
        return Examples(
            split=split or self.split,
            texts=tuple(self.texts[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            text_pairs=None if self.text_pairs is None else tuple(self.text_pairs[row] for row in rows),
        )

    def sha256(self, labels: Labels) -> str:
        """Hash of texts and class names, or values, in order; every part is preceded by its length."""
        named = list(map(labels.text, self.labels))
        columns = (self.texts, named) if self.text_pairs is None else (self.texts, self.text_pairs, named)
        digest = hashlib.sha256()
        for row in zip(*columns, strict=True):
            for part in map(str.encode, row):
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


def load_examples(recipe: Recipe, tables: Mapping[str, Table]) -> tuple[dict[str, Examples], Labels]:
    """Checks the rows that a recipe names.

    Args:
        recipe: the run.
        tables: what `read_tables` returned.

    Returns:
        Labelled rows by split, `train` among them, and what they are labelled with.

    Raises:
        RequestError: a row cannot be used, or there is nothing to learn from them.
    """
    pair, label = recipe.text_pair_column_name, recipe.label_column_name
    try:
        text, label = choose_columns(tables["train"], text=recipe.text_column_name, pair=pair, label=label)
    except RequestError as error:
        if could_be_continued(tables["train"]):
            raise RequestError(f"{error}; a language model learns them with --task text-generation") from error
        if renaming := suggest_renaming(tables["train"].columns):
            raise RequestError(f"{error}; for a language model, {renaming}") from error
        raise
    texts = {}
    for table in tables.values():
        choose_columns(table, text=text, pair=pair, label=label)
    columns = [column for column in (text, pair) if column is not None]
    tables = {
        split: table.refuse(
            _faults(table, columns, label=label, as_it_stands=recipe.problem_type is not None),
            then=_THEN,
            skip=recipe.skip_bad_rows,
        )
        for split, table in tables.items()
    }
    kind = next(kind for kind in KINDS if kind.claims(tables["train"], label, problem_type=recipe.problem_type))
    for split, table in tables.items():
        tables[split] = table.refuse(kind.faults(table, label), then=_THEN, skip=recipe.skip_bad_rows)
        texts[split] = [tables[split].columns[column] for column in columns]
    labels, labelled = kind.read(tables, label)
    return {split: _examples(split, texts[split], found) for split, found in labelled.items()}, labels


def _examples(split: str, texts: Sequence[Sequence[str]], labelled: LabelledRows) -> Examples:
    first, *second = (tuple(column[row] for row in labelled.rows) for column in texts)
    return Examples(split=split, texts=first, text_pairs=second[0] if second else None, labels=labelled.labels)


def read_texts(table: Table, column: str) -> tuple[str, ...]:
    """Returns a column's texts.

    Raises:
        RequestError: some are empty, or not text.
    """
    table.refuse(_faults(table, [column]), then="fill in, correct or remove such rows")
    return tuple(table.columns[column])


def keep_texts(table: Table, columns: Sequence[str], *, skip: bool = False) -> Table:
    """Returns the rows that have text in all of these columns; others are refused, or skipped with a count.

    Raises:
        RequestError: there are others that are not skipped.
    """
    return table.refuse(_faults(table, columns), then=_THEN, skip=skip)


def _faults(
    table: Table, texts: Sequence[str], *, label: str | None = None, as_it_stands: bool = False
) -> dict[int, str]:
    """Returns what is wrong by row: texts that are empty or no text, labels that are missing or no label.

    Args:
        table: the rows.
        texts: columns with text.
        label: column with the label; None: there is none.
        as_it_stands: whether a word for a missing value is a label.
    """
    faults: dict[int, str] = {}
    for column in texts:
        for row, value in enumerate(table.columns[column]):
            if is_blank(value):
                faults.setdefault(row, f"{column} is empty")
            elif not isinstance(value, str):
                faults.setdefault(row, f"{column} is {value!r:.50}, not text")
    labels = [] if label is None else table.columns[label]
    none = " (write [] for a row without labels)" if any(isinstance(value, list) for value in labels) else ""
    for row, value in enumerate(labels):
        if is_blank(value):
            faults.setdefault(row, f"{label} is {value if isinstance(value, float) else 'empty'}{none}")
        elif isinstance(value, dict):
            faults.setdefault(row, f"{label} is {value!r:.50}: an object, not a label")
        elif isinstance(value, str) and value in _MISSING and not as_it_stands:
            meant = "stands for a missing value (if it is a class: --problem_type classification)"
            faults.setdefault(row, f"{label} is {value!r}, which {meant}")
    return dict(sorted(faults.items()))


def read_tables(recipe: Recipe, *, folder: Path) -> dict[str, Table]:
    """Reads the rows that a recipe names, by split, with each row's text in one column, and its labels too.

    Args:
        recipe: the run.
        folder: what relative paths are relative to.

    Raises:
        RequestError: they cannot be loaded.
    """
    tables = {
        split: with_joined_columns(
            table,
            recipe.text_column_name,
            delimiter=recipe.text_column_delimiter,
            skip_bad_rows=recipe.skip_bad_rows,
        )
        for split, table in _read_tables(recipe, folder).items()
    }
    if recipe.task == TEXT_GENERATION or claims(tables["train"], label=recipe.label_column_name):
        return tables
    return with_label_lists(tables, recipe)


def _read_tables(recipe: Recipe, folder: Path) -> dict[str, Table]:
    name, options = recipe.dataset_name, ReadOptions.of(recipe)
    if name is not None and not name.startswith(locate.PREFIX):
        if (saved := saved_dataset_folder(name, folder=folder)) is not None:
            return read_saved_dataset(saved, role="train")
        return read_hub(name, config=recipe.dataset_config_name, revision=recipe.dataset_revision)
    if name is not None:
        files, options = _embedded(name.removeprefix(locate.PREFIX)), ReadOptions()
    else:
        given = {"train": recipe.train_file, "validation": recipe.validation_file, "test": recipe.test_file}
        files = {split: folder / Path(path).expanduser() for split, path in given.items() if path is not None}
    tables: dict[str, Table] = {}
    for split, path in files.items():
        found = read_saved_dataset(path, role=split) if path.is_dir() else {split: read_file(path, options)}
        # The train file comes first, with all its splits; a file named for one of them replaces it.
        tables |= found if split == "train" else {split: found[split]}
    return tables


def _embedded(name: str) -> dict[str, Path]:
    try:
        files = locate.embedded_dataset(name)
    except (FileNotFoundError, ValueError) as error:
        raise RequestError(str(error)) from error
    if "train" not in files:
        raise RequestError(f"{locate.PREFIX}{name} has test rows only: use {locate.PREFIX}movie_reviews to train on")
    return files
