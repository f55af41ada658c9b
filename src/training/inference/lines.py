"""Texts from a stream, one per line, handed on as soon as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from src.cli.errors import RequestError

# A read from a pipe returns at most this much on Linux; one from a file would return everything.
_CHUNK_BYTES = 1 << 16

_Parsed = TypeVar("_Parsed")


def as_text(line: str, number: int) -> str:
    """Returns the line as a text."""
    del number
    return line


def text_windows(stream: BinaryIO, *, size: int, parse: Callable[[str, int], _Parsed]) -> Iterator[list[_Parsed]]:
    """Yields texts in order, as many as have arrived, at most `size` at a time: a slow writer is answered line by line.

    Args:
        stream: UTF-8, buffered.
        size: maximum number of texts at a time.
        parse: returns the text, or the pair, of a line, given the line and its number; or refuses it.

    Raises:
        RequestError: a line is empty, not UTF-8 or refused. The texts before it have been yielded.
    """
    window: list[_Parsed] = []
    for number, line in _lines(stream):
        if line is None:
            if window:
                yield window
            window = []
            continue
        try:
            text = parse(_text(line, number), number)
        except RequestError:
            if window:
                yield window
            raise
        window.append(text)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def _text(line: bytes, number: int) -> str:
    try:
        text = line.removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"line {number} is not UTF-8: convert the text first") from error
    if not text.strip():
        raise RequestError(f"line {number} is empty: every line must hold a text")
    return text


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yields numbered lines, and None whenever the next one may take a while to arrive."""
    number = 0
    rest = b""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            yield number, line
        # A full chunk: there is more to read at once.
        if len(chunk) < _CHUNK_BYTES:
            yield number, None
    if rest:
        yield number + 1, rest
