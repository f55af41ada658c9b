"""Settings as dataclass fields: the help of each, and how a value out of YAML or a command line becomes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

_KINDS = {"str": str, "int": int, "float": float, "bool": bool}


def setting(
    default: Any,
    doc: str,
    *,
    check: Callable[[Any], bool] | None = None,
    must: str = "",
    choices: tuple[str, ...] = (),
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """A dataclass field with its help text and what its value must satisfy.

    Args:
        default: its value where none is given.
        doc: its help text.
        check: whether a converted value is valid.
        must: what a value must be, for the error.
        choices: the only valid values; in place of check and must.
        convert: makes a value of a raw one, or raises a ValueError that says what it must be; in place of all others.
    """
    if choices:
        check, must = choices.__contains__, f"must be {', '.join(choices[:-1])} or {choices[-1]}"
    metadata = {"doc": doc, "check": check, "must": must, "choices": choices, "convert": convert}
    return dataclasses.field(default=default, metadata=metadata)


def positive_integer(default: int | None, doc: str) -> Any:
    """A setting that is a whole number above 0."""
    return setting(default, doc, check=lambda value: value > 0, must="must be a whole number above 0")


def fraction(default: float | None, doc: str) -> Any:
    """A setting that is a share of something, and not none of it."""
    return setting(default, doc, check=lambda value: 0 < value <= 1, must="must be above 0 and at most 1")


def not_negative(default: float, doc: str) -> Any:
    """A setting that is 0 or more."""
    return setting(default, doc, check=lambda value: value >= 0, must="must be 0 or more")


def parse_names(value: Any) -> tuple[str, ...]:
    """Converts a recipe's list of names, or on a command line words apart by commas or blanks.

    Raises:
        ValueError: with what the value must be.
    """
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError("must be one or more names")
    return tuple(name for word in words for name in word.replace(",", " ").split())


def settings_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Returns the settings of a dataclass by name."""
    return {field.name: field for field in dataclasses.fields(cls)}


def parse_settings(
    raw: Mapping[str, Any], settings: Mapping[str, dataclasses.Field[Any]], *, prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Converts raw values to the types of their settings.

    Args:
        raw: values by name, as YAML or a command line gives them.
        settings: by name.
        prefix: of the names in messages, such as `--`.

    Returns:
        The values, and one phrase for each mistake.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, value in raw.items():
        try:
            values[name] = _convert(settings[name], value)
        except ValueError as error:
            mistakes.append(f"{prefix}{name} {error}, not {value!r}")
    return values, mistakes


def _convert(field: dataclasses.Field[Any], value: Any) -> Any:
    """Converts one value; a ValueError says what it must be."""
    if field.metadata["convert"] is not None:
        return field.metadata["convert"](value)
    kind, _, optional = str(field.type).partition(" | ")
    if value is None:
        if optional:
            return None
        raise ValueError("needs a value")
    converted = _to_kind(_KINDS[kind], value, must=field.metadata["must"])
    check = field.metadata["check"]
    if check is not None and not check(converted):
        raise ValueError(field.metadata["must"])
    return converted


def _to_kind(kind: type, value: Any, *, must: str) -> Any:
    if kind is bool:
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in known:
            raise ValueError("must be true or false")
        return known[str(value).lower()]
    if isinstance(value, bool | list | dict):
        raise ValueError(must or "must be a single value")
    try:
        # `1e-3` is a string in YAML 1.1, and `2.0` is a whole number to a user.
        number = float(value) if kind is not str else 0.0
        if kind is int and number != int(number):
            raise ValueError
        return kind(number) if kind is not str else str(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(must or f"must be a {'whole ' if kind is int else ''}number") from error
