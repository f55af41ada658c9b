"""Labels as classes: their names, whatever kind of file they come from, and their order."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from src.cli.errors import RequestError
from src.training.data.tables import Table

# More classes than this, most of them on few rows: numbers to be predicted, not names of classes.
_MOST_CLASSES = 1000

log = logging.getLogger(__name__)


def class_labels(table: Table, column: str) -> list[str | None]:
    """Returns the class name of each row; None where the source hides it (GLUE's -1).

    Raises:
        RequestError: a row has no label, or one that its source has no name for.
    """
    names = table.class_names.get(column)
    labels = []
    for row, label in enumerate(table.columns[column], 1):
        name = _class_name(label, names)
        if name == "":
            what = label if isinstance(label, float) else "empty"
            raise RequestError(f"{table.origin}, row {row}: {column} is {what}: fill it in or remove the row")
        labels.append(name)
    if all(label is None for label in labels):
        log.info("%s has no labels: it is left out", table.origin)
    return labels


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
    # pandas marks what is missing with NaN.
    if label is None or (isinstance(label, float) and not math.isfinite(label)):
        return ""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).strip()


def ordered_class_names(table: Table, column: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the class names: the source's own, else the labels in order (numbers by value).

    Raises:
        RequestError: there are too many to be classes.
    """
    if column in table.class_names:
        return table.class_names[column]
    found = set(labels)
    if len(found) > _MOST_CLASSES and len(found) > len(labels) // 4:
        raise RequestError(
            f"{table.origin}: {column} has {len(found):,} different values in {len(labels):,} rows: name a column with "
            "classes with --label_column_name, or, if they are numbers to be predicted, --problem_type regression"
        )
    try:
        # The name breaks ties: 1 and 1.0 are two classes, and a set has no order of its own.
        values = {name: float(name) for name in found}
    except ValueError:
        values = {}
    if any(map(math.isnan, values.values())):
        values = {}
    return tuple(sorted(found, key=lambda name: (values.get(name, 0.0), name)))


def class_indices(origin: str, labels: Sequence[str], class_names: Sequence[str]) -> tuple[int, ...]:
    """Returns the index of each label's class.

    Raises:
        RequestError: a label that no train row has.
    """
    index = {name: at for at, name in enumerate(class_names)}
    unseen = sorted(set(labels) - set(index))
    if unseen:
        raise RequestError(
            f"{origin} has labels that no train row has: {', '.join(map(repr, unseen[:5]))}: "
            f"the train rows know {', '.join(map(repr, class_names[:20]))}"
        )
    return tuple(index[label] for label in labels)
