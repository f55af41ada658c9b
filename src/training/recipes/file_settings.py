"""What a recipe says of files of rows: their delimiter and their encoding."""

from __future__ import annotations

from typing import Any

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|", "space": " "}


def parse_delimiter(value: Any) -> str | None:
    """Converts a delimiter, or the name of one.

    Raises:
        ValueError: with what the value must be.
    """
    if value is None:
        return None
    delimiter = _DELIMITERS.get(str(value).lower(), str(value))
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError("must be one character, or tab, comma, semicolon, pipe or space")
    return delimiter


def parse_encoding(value: Any) -> str | None:
    """Checks the name of an encoding.

    Raises:
        ValueError: with what the value must be.
    """
    if value is None:
        return None
    try:
        # Not by codecs.lookup(), which also knows what makes bytes of bytes.
        "".encode(str(value))
    except (LookupError, ValueError) as error:
        raise ValueError("must be the name of a text encoding, such as utf-8, cp1252, utf-16 or gb18030") from error
    return str(value)
