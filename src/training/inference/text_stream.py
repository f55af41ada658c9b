"""The text of an answer while its tokens come: whole characters only, and nothing that steers a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# What a decoder writes for bytes that are no whole character, perhaps not yet.
INCOMPLETE = "\ufffd"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def whole_characters(text: str, *, is_cut: bool) -> str:
    """Returns an answer's text; one that was cut within a character ends before it."""
    return text.rstrip(INCOMPLETE) if is_cut else text


class TextStream:
    """Writes an answer piece by piece."""

    def __init__(self, decode: Callable[[Sequence[int]], str], write: Callable[[str], None]) -> None:
        """Starts with nothing.

        Args:
            decode: returns the text of tokens.
            write: takes the next piece.
        """
        self._decode, self._write = decode, write
        self._ids: list[int] = []
        self._written = 0

    def take(self, token: int) -> None:
        """Takes the next token, and writes what is certain."""
        self._ids.append(token)
        # All of it: a piece decoded by itself may lack a space, and a model takes far longer for a token than this.
        self._write_to(self._decode(self._ids).rstrip(INCOMPLETE))

    def end(self) -> None:
        """Writes what was held back: all pieces together are the text of all tokens."""
        self._write_to(self._decode(self._ids))

    def _write_to(self, text: str) -> None:
        if len(text) > self._written:
            self._write(text[self._written :])
            self._written = len(text)


def for_terminal(text: str) -> str:
    r"""Returns text with its control characters, but for ends of lines and tabs, as escape sequences: \x1b."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
