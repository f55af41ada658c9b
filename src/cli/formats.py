"""Durations, sizes and numbers as people read and write them: 3 min 20 s, 5GB, 512MiB, 30d."""

from __future__ import annotations

import math
import re

from src.cli.errors import RequestError

_SIZES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _SIZES |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_size(text: str, *, name: str) -> int:
    """Returns bytes.

    Args:
        text: a number, alone or followed by B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB or TiB.
        name: of the flag or variable, for the error.

    Raises:
        RequestError: it is not a size.
    """
    return int(_parse(text, units=_SIZES, must=f"{name} must be a size such as 5GB or 512MiB, not {text!r}"))


def parse_age(text: str, *, name: str) -> float:
    """Returns seconds; the unit is s, m, h, d or w.

    Raises:
        RequestError: it is not an age.
    """
    return _parse(text, units=_AGES, must=f"{name} must be an age such as 30d or 12h, not {text!r}")


def _parse(text: str, *, units: dict[str, int], must: str) -> float:
    found = _WRITTEN.fullmatch(text.strip().lower())
    if found is None or found[2] not in units:
        raise RequestError(must)
    return float(found[1]) * units[found[2]]


def show_size(size: float) -> str:
    """Formats a size, in powers of 1000 as disks are sold: 512 B, 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """Formats a duration: 0.4 s, 12 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def number_or_dash(value: float | None) -> str:
    """Formats a score with four decimals; a dash if it is undefined or not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"
