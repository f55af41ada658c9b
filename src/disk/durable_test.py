"""What is read is a regular file of a known size, or an error at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from src.disk.durable import file_sha256, open_regular, read_regular


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    assert read_regular(tmp_path / "file", max_bytes=5) == b"bytes"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(tmp_path / "file", max_bytes=4)


def test_a_link_is_followed_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    assert file_sha256(tmp_path / "link") == file_sha256(tmp_path / "file", follow_links=False)
    with pytest.raises(OSError, match="symbolic links"):
        read_regular(tmp_path / "link", max_bytes=5)


@pytest.mark.parametrize("follow_links", [True, False])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_not_a_regular_file_is_an_error_and_never_waits(tmp_path: Path, kind: str, follow_links: bool) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path, follow_links=follow_links)
