"""Text from elsewhere on its way to a terminal, which obeys control characters."""

from __future__ import annotations


def printable(text: str) -> str:
    """Returns the text with an escape such as \\x1b for each character that a terminal may obey.

    Those are control characters, line breaks among them, what reorders text or is invisible, and halves of surrogate
    pairs, which cannot be written as UTF-8.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
