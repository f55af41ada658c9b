"""What a file holds in place of rows, told from its first bytes, and what to do about it."""

from __future__ import annotations

import re

from src.cli.errors import RequestError

PARQUET = b"PAR1"
GZIP = b"\x1f\x8b"
_BEGINNINGS = (
    (PARQUET, "is a parquet file: end its name in .parquet"),
    (b"PK\x03\x04", 'is a zip archive or a spreadsheet: unpack it, or save it as csv ("CSV UTF-8" in Excel)'),
    (b"\xd0\xcf\x11\xe0", 'is a file of an old Excel or Word: save it as csv ("CSV UTF-8" in Excel)'),
    (b"BZh", "is compressed with bzip2: unpack it, or compress it with gzip"),
    (b"\xfd7zXZ\0", "is compressed with xz: unpack it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it, or compress it with gzip"),
    (b"ARROW1", "is an Arrow file: write it as parquet"),
    (b"%PDF-", "is a PDF file: write its rows as csv"),
    (b"SQLite format 3\0", "is a database of SQLite: export the table as csv"),
    (b"version https://git-lfs.github.com/", "is a pointer of Git LFS, not the file itself: run `git lfs pull`"),
)
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)\b", re.IGNORECASE)


def refuse_foreign(content: bytes, *, origin: str, allowed: bytes | None = None) -> None:
    """Refuses the content of a file that is of another kind than its name says.

    Args:
        content: of the file, or its first bytes.
        origin: its name in messages.
        allowed: the beginning of the kind that its name says.

    Raises:
        RequestError: it is of another kind.
    """
    for beginning, fault in _BEGINNINGS:
        if beginning != allowed and content.startswith(beginning):
            raise RequestError(f"{origin} {fault}")
    if _WEB_PAGE.match(content):
        raise RequestError(f"{origin} is a web page (HTML), not a file of rows: download the file itself")
