"""Rows that cannot be used: all of them refused in one sentence, or left out with a count."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from src.cli.errors import RequestError

_MAX_NAMED_ROWS, _MAX_NAMED_FAULTS = 5, 3

log = logging.getLogger(__name__)


class RowFaultError(ValueError):
    """A row cannot be learnt from. The message is a phrase that follows its number."""


def refuse_rows(origin: str, faults: Mapping[int, str], *, then: str, unit: str = "row", skip: bool = False) -> None:
    """Refuses all bad rows in one sentence.

    Args:
        origin: where they come from.
        faults: what is wrong, by the number of the row or line.
        then: what to do; {rows} becomes `the row` or `these rows`.
        unit: what is numbered: row or line.
        skip: the rows are left out: say so in place of a refusal.

    Raises:
        RequestError: there are any, and they are not skipped.
    """
    if not faults:
        return
    by_fault: dict[str, list[int]] = {}
    for number, fault in faults.items():
        by_fault.setdefault(fault, []).append(number)
    named = [f"{_numbered(numbers, unit)}: {fault}" for fault, numbers in list(by_fault.items())[:_MAX_NAMED_FAULTS]]
    if unnamed := sum(len(numbers) for numbers in list(by_fault.values())[_MAX_NAMED_FAULTS:]):
        named.append(f"{unnamed:,} more {unit}s with other faults")
    if skip:
        count = f"{len(faults):,} bad {'row is' if len(faults) == 1 else 'rows are'} left out"
        log.warning("%s: %s (%s)", origin, count, "; ".join(named))
        return
    rows = "the row" if len(faults) == 1 else "these rows"
    raise RequestError(f"{origin}, {'; '.join(named)}: {then.replace('{rows}', rows)}")


def _numbered(numbers: Sequence[int], unit: str) -> str:
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    named, more = numbers[:_MAX_NAMED_ROWS], len(numbers) - _MAX_NAMED_ROWS
    if more > 0:
        return f"{unit}s {', '.join(map(str, named))} and {more:,} more"
    return f"{unit}s {', '.join(map(str, named[:-1]))} and {named[-1]}"


def require_characters(name: str, text: str) -> None:
    """Refuses halves of surrogate pairs: JSON can spell them, but they are not characters, and not UTF-8.

    Raises:
        RowFaultError: there is one.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowFaultError(f"{name} holds half of a character ({text[error.start]!a})") from error


def is_blank(value: Any) -> bool:
    """Whether a cell holds nothing; pandas marks that with NaN."""
    return value is None or value == "" or value != value or (isinstance(value, str) and not value.strip())
