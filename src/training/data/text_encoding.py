"""From the bytes of a text file to its characters: UTF-8 and UTF-16 are found out, other encodings are asked for."""

from __future__ import annotations

import codecs
import re

from src.cli.errors import RequestError

_MARKS = (
    # UTF-32's little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD_BYTES = 1 << 12
# Western text has single letters beyond ASCII; Cyrillic and East Asian encodings have whole words of them.
_WORD_BEYOND_ASCII = re.compile(rb"[\x80-\xff]{4}")
_SHOWN_CHARACTERS = 30


def decode(content: bytes, *, origin: str, encoding: str | None) -> str:
    """Decodes a file.

    Args:
        content: of the file.
        origin: its name in messages.
        encoding: of the file; None: UTF-8, or UTF-16 or UTF-32 with its byte order mark or plain to see.

    Raises:
        RequestError: it is in another encoding; the message names the line.
    """
    used = encoding or _told_encoding(content)
    try:
        text = content.decode(used)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        if encoding is None and used == "utf-8":
            raise RequestError(f"{origin}, line {line}: {_not_utf8(content, error.start)}") from error
        raise RequestError(
            f"{origin}, line {line}: the byte 0x{content[error.start]:02x} is not {used}: give the file's own "
            "encoding with --encoding"
        ) from error
    except (LookupError, UnicodeError) as error:
        raise RequestError(f"{origin} is not {used}: give the file's own encoding with --encoding") from error
    return text.removeprefix("\ufeff")


def _told_encoding(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    head = content[:_HEAD_BYTES]
    # No character of any language needs the two high bytes of UTF-32; emoji need one.
    if len(head) > 4 and len(content) % 4 == 0 and any(head):
        for encoding, high in (("utf-32-le", slice(3, None, 4)), ("utf-32-be", slice(0, None, 4))):
            if not any(head[high]) and head.count(0) > len(head) // 2:
                return encoding
    # Without a mark: every other byte of ASCII in UTF-16 is 0.
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 8 and min(even, odd) <= len(head) // 64:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _not_utf8(content: bytes, at: int) -> str:
    byte = f"the byte 0x{content[at]:02x} is not UTF-8"
    if _WORD_BEYOND_ASCII.search(content):
        return (
            f"{byte}: name the file's encoding with --encoding, such as gb18030 or big5 (Chinese), shift_jis "
            "(Japanese), euc_kr (Korean) or cp1251 (Cyrillic)"
        )
    start = max(content.rfind(b"\n", 0, at) + 1, at - _SHOWN_CHARACTERS // 2)
    (line, *_) = re.split(rb"[\r\n]", content[start : at + _SHOWN_CHARACTERS // 2])
    shown = line.decode("cp1252", "replace")
    return (
        f"{byte}: --encoding cp1252 (Windows-1252, as Excel saves Western text) reads it as {shown!r}; if that is "
        "wrong, name another"
    )
