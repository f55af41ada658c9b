"""The labels of rows that have none: of a language model, which learns the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from src.training.data.labels import Label, LabelledRows
from src.training.data.tables import Table
from src.training.recipes.recipe import TEXT_GENERATION


class ContinuedText:
    """See Labels. Every row is labelled 0."""

    problem_type: ClassVar[str] = TEXT_GENERATION
    class_names: tuple[str, ...] = ()

    @classmethod
    def claims(cls, table: Table, column: str, *, problem_type: str | None) -> bool:
        """Claims no column."""
        del table, column, problem_type
        return False

    @classmethod
    def faults(cls, table: Table, column: str) -> dict[int, str]:
        """Finds none: there is nothing to read."""
        del table, column
        return {}

    @classmethod
    def read(cls, tables: Mapping[str, Table], column: str) -> tuple[Self, dict[str, LabelledRows]]:
        """Is never asked to."""
        raise TypeError(f"rows of text have no labels in {column!r} of {', '.join(tables)}")

    def parse(self, label: Any) -> Label | None:
        """See Labels.parse."""
        del label
        return None

    def text(self, label: Any) -> str:
        """See Labels.text."""
        del label
        return ""

    def can_learn_from(self, labels: Sequence[Any]) -> bool:
        """See Labels.can_learn_from."""
        return len(labels) > 0

    def strata(self, labels: Sequence[Any]) -> tuple[int, ...]:
        """See Labels.strata."""
        return (0,) * len(labels)

    def untested(self, test: Sequence[Any]) -> tuple[str, ...]:
        """See Labels.untested."""
        del test
        return ()

    def describe(self, train: Sequence[Any]) -> str:
        """See Labels.describe."""
        return f"Text to continue: {len(train):,} rows"
