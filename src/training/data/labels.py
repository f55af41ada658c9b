"""What rows are labelled with. Each kind of labels is a class that answers to `Labels`; rows.KINDS lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from src.training.data.tables import Table

# A class index, a value, or 1.0 and 0.0 for each label that a row has and has not.
Label = int | float | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """The rows of a table whose labels are known, and the label of each."""

    rows: Sequence[int]
    labels: tuple[Label, ...]


class Labels(Protocol):
    """One kind of labels, and what is known of a data set's: such as the names of its classes."""

    problem_type: ClassVar[str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """By index; none where the labels are not classes."""

    @classmethod
    def claims(cls, table: Table, column: str, *, problem_type: str | None) -> bool:
        """Whether a column holds labels of this kind.

        Args:
            table: the train rows.
            column: with the labels.
            problem_type: the recipe's; None where it leaves that open.

        Raises:
            RequestError: the labels contradict the recipe, or only the user can say what they are.
        """

    @classmethod
    def faults(cls, table: Table, column: str) -> dict[int, str]:
        """Returns what is wrong with labels that are not of this kind, by row, counted from 0."""

    @classmethod
    def read(cls, tables: Mapping[str, Table], column: str) -> tuple[Self, dict[str, LabelledRows]]:
        """Reads the labels of every split, of rows without faults; a split whose source hides all is left out.

        Raises:
            RequestError: a label that no train row has, or there is nothing to learn from them.
        """

    def parse(self, label: Any) -> Label | None:
        """Returns a label as a file holds it as Examples do; None where it is not one."""

    def text(self, label: Any) -> str:
        """Returns what stands for a label in the hash of the rows: it does not depend on the order of classes."""

    def can_learn_from(self, labels: Sequence[Any]) -> bool:
        """Whether rows with these labels can teach a model anything."""

    def strata(self, labels: Sequence[Any]) -> tuple[int, ...]:
        """Returns the stratum of each row: splits hold the rows of each in the same proportion."""

    def untested(self, test: Sequence[Any]) -> tuple[str, ...]:
        """Returns the names of the classes that no row with these labels is of."""

    def describe(self, train: Sequence[Any]) -> str:
        """Returns one line about the labels for the console."""
