"""Users' texts on a page: cut to a length, and free of control characters."""

from __future__ import annotations

_MAX_LETTERS = 500


def cut_text(text: str) -> str:
    """Returns as much of a text as a page has room for."""
    return text if len(text) <= _MAX_LETTERS else text[:_MAX_LETTERS].rstrip() + " …"


def printable(text: str) -> str:
    """Returns text that HTML can hold and that shows what is there: control characters become a sign for them."""
    kept = (" " if letter in "\n\r\t" else letter for letter in text.encode("utf-8", "replace").decode())
    return "".join("�" if _is_control(letter) else letter for letter in kept)


def _is_control(letter: str) -> bool:
    # Beside C0 and C1: marks that turn the direction of all that follows.
    return (
        letter < " " or "\x7f" <= letter < "\xa0" or letter in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
