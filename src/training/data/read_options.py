"""How files of rows are read, where the files do not tell."""

from __future__ import annotations

from dataclasses import dataclass

from src.training.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user says of the files.

    Attributes:
        delimiter: between the values of a line; None: found out.
        quoting: minimal: a value may be quoted; none: quotes are characters; None: found out.
        encoding: of text, as Python names it; None: found out.
        skip_bad_rows: rows that cannot be read are left out and counted, in place of a refusal.
    """

    delimiter: str | None = None
    quoting: str | None = None
    encoding: str | None = None
    skip_bad_rows: bool = False

    @classmethod
    def of(cls, recipe: Recipe) -> ReadOptions:
        """Returns what a recipe says."""
        return cls(
            delimiter=recipe.delimiter,
            quoting=recipe.quoting,
            encoding=recipe.encoding,
            skip_bad_rows=recipe.skip_bad_rows,
        )
