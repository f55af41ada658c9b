"""What a name can hold never steers a terminal."""

from __future__ import annotations

import pytest

from src.cli.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 日本", "Größe 日本"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\r", r"a\nb\r"),
        ("\x9b2J\u202e", r"\x9b2J\u202e"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_does_not_print_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
