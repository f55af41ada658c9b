"""What stands in the place of a JSON file is read or refused: no hang, no error of Python's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from src.disk import json_files
from src.disk.json_files import read_json


def test_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"a": ["ü", 1]}', encoding="utf-8")
    assert read_json(tmp_path / "file") == {"a": ["ü", 1]}


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda _path: None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b'{"a": "\xff"}'),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_bytes(b"9" * 10_000),
    ],
    ids=["FIFO", "folder", "device", "loop", "nothing", "empty", "no UTF-8", "deep", "long number"],
)
def test_what_is_no_json_file_is_refused(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "file")
    with pytest.raises((OSError, ValueError)):
        read_json(tmp_path / "file")


def test_a_huge_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_MAX_BYTES", 1000)
    (tmp_path / "file").write_text(f'"{"x" * 1000}"')
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        read_json(tmp_path / "file")
