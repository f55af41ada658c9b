"""Lines become texts at once and in order, and an invalid line is named."""

from __future__ import annotations

import io
import os

import pytest

from src.cli.errors import RequestError
from src.training.inference.lines import as_text, text_windows


def test_lines_come_in_windows_in_order() -> None:
    lines = [f"text {number}" for number in range(20_000)]
    windows = list(text_windows(io.BytesIO("\n".join(lines).encode()), size=300, parse=as_text))
    assert [text for window in windows for text in window] == lines
    assert max(map(len, windows)) == 300
    assert sum(len(window) == 300 for window in windows) >= 60


def test_ends_of_lines_and_a_byte_order_mark_are_no_part_of_a_text() -> None:
    stream = io.BytesIO("\ufeffgut\r\nschön \n\tlast".encode())
    assert [text for window in text_windows(stream, size=8, parse=as_text) for text in window] == [
        "gut",
        "schön ",
        "\tlast",
    ]
    assert list(text_windows(io.BytesIO(b""), size=8, parse=as_text)) == []


@pytest.mark.parametrize(
    ("line", "words"), [(b"", "line 3 is empty"), (b" \t\r", "line 3 is empty"), (b"caf\xe9", "line 3 is not UTF-8")]
)
def test_a_line_that_is_no_text_is_named_after_those_before_it(line: bytes, words: str) -> None:
    windows = text_windows(io.BytesIO(b"one\ntwo\n" + line + b"\nfour\n"), size=8, parse=as_text)
    assert next(windows) == ["one", "two"]
    with pytest.raises(RequestError, match=words):
        next(windows)


def test_a_slow_writer_is_answered_line_by_line() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream, open(writing, "wb", buffering=0) as writer:  # noqa: PTH123
        windows = text_windows(stream, size=1000, parse=as_text)
        writer.write(b"first\nsecond\nthi")
        assert next(windows) == ["first", "second"]
        writer.write(b"rd\n")
        assert next(windows) == ["third"]
