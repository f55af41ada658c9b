"""The outputs of a test in bazel-testlogs/.../test.outputs: a model, or the checkpoint of a stopped run."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cli.errors import RequestError

# More than any model of this project: an executor may return anything.
_MAX_BYTES = 200 << 30


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
        RequestError: an unsafe output: a damaged archive, a symlink, a path that leads out of the folder.
    """
    scratch.mkdir(parents=True)
    try:
        archive = outputs / "outputs.zip"
        if archive.is_file():
            _extract(archive, scratch)
        else:
            for path in outputs.rglob("*"):
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    raise RequestError(f"{path} is not a regular file: it is not collected")
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
                    raise RequestError(
                        f"{archive} holds {member.filename!r}, which leads out of the folder: it is not collected"
                    )
            if sum(member.file_size for member in opened.infolist()) > _MAX_BYTES:
                raise RequestError(f"{archive} unpacks to more than {_MAX_BYTES >> 30} GiB: it is not collected")
            opened.extractall(target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise RequestError(f"{archive} is damaged ({error}): run the test again") from error
