"""An answer arrives in whole characters, and as the text that it has in the end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from src.training.inference.text_stream import TextStream, for_terminal, whole_characters


def decode(ids: Sequence[int]) -> str:
    """Tokens that are bytes."""
    return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        ("schön".encode(), ["s", "c", "h", "ö", "n"]),
        ("日🎉".encode(), ["日", "🎉"]),
        # Half of a character at the end, and one that never becomes whole.
        ("a日".encode()[:3], ["a", "�"]),
        (b"a\xe6bc", ["a", "�b", "c"]),
        (b"", []),
    ],
)
def test_pieces_are_whole_characters_and_make_the_whole_text(data: bytes, pieces: list[str]) -> None:
    written: list[str] = []
    stream = TextStream(decode, written.append)
    for token in data:
        stream.take(token)
    stream.end()
    assert written == pieces
    assert "".join(written) == decode(data)


def test_an_answer_that_was_cut_within_a_character_ends_before_it() -> None:
    half = decode("a日".encode()[:3])
    assert (whole_characters(half, is_cut=True), whole_characters(half, is_cut=False)) == ("a", "a�")


def test_an_answer_does_not_steer_the_terminal() -> None:
    assert for_terminal("\x1b[2Ja\tb\n\x9b\x07ö👩\u200d💻\r") == "\\x1b[2Ja\tb\n\\x9b\\x07ö👩\u200d💻\\r"
