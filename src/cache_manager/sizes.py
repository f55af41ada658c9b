"""Sizes and ages as people write and read them: 5GB, 512MiB, 30d."""

from __future__ import annotations

import re

from src.training.errors import RequestError

_SIZES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _SIZES |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_size(text: str, *, name: str) -> int:
    """Returns bytes.

    Args:
        text: a number with B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB or nothing behind it.
        name: of the flag or variable, for the error.

    Raises:
        RequestError: it is no size.
    """
    return int(_parse(text, units=_SIZES, must=f"{name} must be a size such as 5GB or 512MiB, not {text!r}"))


def parse_age(text: str, *, name: str) -> float:
    """Returns seconds; the unit is s, m, h, d or w.

    Raises:
        RequestError: it is no age.
    """
    return _parse(text, units=_AGES, must=f"{name} must be an age such as 30d or 12h, not {text!r}")


def _parse(text: str, *, units: dict[str, int], must: str) -> float:
    found = _WRITTEN.fullmatch(text.strip().lower())
    if found is None or found[2] not in units:
        raise RequestError(must)
    return float(found[1]) * units[found[2]]


def show_size(size: float) -> str:
    """Returns a size for people, in powers of 1000 as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
