"""What a test left in bazel-testlogs/.../test.outputs: a model, or the checkpoint of a run that was stopped."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cli.errors import RequestError

# More than any model of this project: an executor may return anything.
_MOST_BYTES = 200 << 30


def outputs_folder(root: Path, label: str) -> Path:
    """Returns where Bazel puts the outputs of a test.

    Args:
        root: of the repository.
        label: of the test: //PACKAGE:NAME or //PACKAGE.

    Raises:
        RequestError: that is no label of this repository, or the test has left nothing.
    """
    package, _, name = label.removeprefix("//").partition(":")
    parts = [*package.split("/"), *(name or package.rpartition("/")[2]).split("/")]
    if not label.startswith("//") or not package or any(part in ("", ".", "..") for part in parts):
        raise RequestError(f"{label} is no label of a test here: write //PACKAGE:NAME")
    folder = root.joinpath("bazel-testlogs", *parts, "test.outputs")
    if not folder.is_dir() or not any(folder.iterdir()):
        raise RequestError(
            f"{label} has left no outputs: run `bazel test --config=remote {label}` first, without "
            "--remote_download_minimal; the worker needs the programs zip and file"
        )
    return folder


@contextmanager
def unpacked(outputs: Path, *, scratch: Path) -> Iterator[Path]:
    """Gives a folder with a test's outputs, which is gone afterwards; Bazel zips them or not.

    Raises:
        RequestError: what is there cannot be trusted: a damaged archive, links, names that lead elsewhere.
    """
    scratch.mkdir(parents=True)
    try:
        archive = outputs / "outputs.zip"
        if archive.is_file():
            _extract(archive, scratch)
        else:
            for path in outputs.rglob("*"):
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    raise RequestError(f"{path} is no plain file: it is not taken")
            shutil.copytree(outputs, scratch, dirs_exist_ok=True)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(archive: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                parts = Path(member.filename).parts
                if Path(member.filename).is_absolute() or ".." in parts or stat.S_ISLNK(member.external_attr >> 16):
                    raise RequestError(f"{archive} holds {member.filename!r}, which leads elsewhere: it is not taken")
            if sum(member.file_size for member in opened.infolist()) > _MOST_BYTES:
                raise RequestError(f"{archive} unpacks to more than {_MOST_BYTES >> 30} GiB: it is not taken")
            opened.extractall(target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise RequestError(f"{archive} is damaged ({error}): run the test again") from error
