"""Text from elsewhere as a terminal may show it: no escape sequence, no forged line, no byte that is not Unicode."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Returns text with everything that does not print as an escape sequence of Python: \x1b, \n, \udcff."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
