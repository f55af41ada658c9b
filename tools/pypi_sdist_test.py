"""Tests of pypi_sdist.py, without its download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tools import pypi_sdist

CONTENT = b"an sdist"
LOCK = f"""\
some-package==1 \\
    --hash=sha256:{hashlib.sha256(b"a wheel").hexdigest()} \\
    --hash=sha256:{hashlib.sha256(CONTENT).hexdigest()}
    # via -r requirements.in
some-package-more==2 \\
    --hash=sha256:00
"""


def test_a_stanza_ends_where_its_hashes_do() -> None:
    assert pypi_sdist.stanza(LOCK, "Some_Package").count("\n") == 3


def test_an_unlocked_package_is_refused() -> None:
    with pytest.raises(SystemExit, match="the lock holds no package"):
        pypi_sdist.stanza(LOCK, "package")


def test_a_file_that_is_there_is_taken_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi_sdist, "pip", lambda *_, **__: pytest.fail("pip was called"))
    have = tmp_path / "have"
    have.mkdir()
    (have / "a-0.tar.gz").write_bytes(b"something else")
    (have / "some_package-1.tar.gz").write_bytes(CONTENT)
    pypi_sdist.obtain(LOCK, "some-package", tmp_path / "out.tar.gz", have)
    assert (tmp_path / "out.tar.gz").read_bytes() == CONTENT


def test_a_file_with_another_hash_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_lock: str, _package: str, folder: Path) -> Path:
        (folder / "some_package-1.tar.gz").write_bytes(CONTENT)
        return folder / "some_package-1.tar.gz"

    monkeypatch.setattr(pypi_sdist, "download", download)
    (tmp_path / "some_package-1.tar.gz").write_bytes(b"cut sh")
    pypi_sdist.obtain(LOCK, "some-package", tmp_path / "out.tar.gz", tmp_path)
    assert (tmp_path / "out.tar.gz").read_bytes() == CONTENT
