"""The outputs of a test in bazel-testlogs/.../test.outputs: a model, or the checkpoint of a stopped run."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cli.errors import RequestError
from src.remote.results.allowed_files import check_allowed


def outputs_folder(root: Path, label: str) -> Path:
    """Returns the folder of a test's outputs.

    Args:
        root: of the repository.
        label: of the test: //PACKAGE:NAME or //PACKAGE.

    Raises:
        RequestError: the label is malformed, or the test left no outputs.
    """
    package, _, name = label.removeprefix("//").partition(":")
    parts = [*package.split("/"), *(name or package.rpartition("/")[2]).split("/")]
    if not label.startswith("//") or not package or any(part in ("", ".", "..") for part in parts):
        raise RequestError(f"{label} is not the label of a test in this repository: write //PACKAGE:NAME")
    folder = root.joinpath("bazel-testlogs", *parts, "test.outputs")
    if not folder.is_dir() or not any(folder.iterdir()):
        raise RequestError(
            f"{label} left no outputs: run `bazel test --config=remote {label}` first, without "
            "--remote_download_minimal; the worker needs the programs zip and file"
        )
    return folder


@contextmanager
def unpacked(outputs: Path, *, scratch: Path) -> Iterator[Path]:
    """Yields a temporary folder with a test's outputs, whether Bazel zipped them or not.

    Raises:
        RequestError: an output that no training leaves, a link, a damaged archive, or more than the disk holds.
    """
    scratch.mkdir(parents=True)
    try:
        archive = outputs / "outputs.zip"
        if archive.is_file():
            _extract(archive, scratch)
        else:
            _copy(outputs, scratch)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy(outputs: Path, target: Path) -> None:
    total = 0
    # A folder comes before what is in it, so that none is entered that is refused.
    for path in outputs.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise RequestError(f"{path} is not a regular file: nothing is collected")
        size = 0 if path.is_dir() else path.stat().st_size
        check_allowed(path.relative_to(outputs).as_posix() + "/" * path.is_dir(), size=size)
        total += size
    _check_space(total, target)
    shutil.copytree(outputs, target, dirs_exist_ok=True)


def _extract(archive: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise RequestError(
                        f"{member.filename[:100]!a} in {archive} is not a regular file: nothing is collected"
                    )
                check_allowed(member.filename, size=member.file_size)
            if len({member.filename for member in members}) < len(members):
                raise RequestError(f"{archive} holds a file twice: nothing is collected")
            _check_space(sum(member.file_size for member in members), target)
            opened.extractall(target)
    # A RuntimeError: it is encrypted, or compressed in a way that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise RequestError(f"{archive} is damaged ({error}): run the test again") from error


def _check_space(size: int, target: Path) -> None:
    if size > (free := shutil.disk_usage(target).free):
        raise RequestError(f"the outputs take {size:,} bytes, {target.parent} has {free:,} free: nothing is collected")
