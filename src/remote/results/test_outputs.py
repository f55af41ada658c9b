"""The outputs of a test in bazel-testlogs/.../test.outputs: a model, or the checkpoint of a stopped run."""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cli.errors import RequestError
from src.disk.durable import delete
from src.remote.results.allowed_files import check_allowed, check_checkpoints

# Of a member's flags.
_ENCRYPTED = 0x1
# 50 bytes a file and its name; what a training leaves are some thirty files.
_MAX_READ = 4 << 20


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
            "--remote_download_minimal; the worker needs the programs file and, before Bazel 8, zip"
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
        if archive.is_file() and not archive.is_symlink():
            _extract(archive, scratch)
        else:
            _copy(outputs, scratch)
        yield scratch
    finally:
        delete(scratch)


def _copy(outputs: Path, target: Path) -> None:
    sizes: dict[Path, int] = {}
    folders: list[Path] = []
    # A folder comes before what is in it, so that none is entered that is refused.
    for path in outputs.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise RequestError(f"{path} is not a regular file: nothing is collected")
        name = path.relative_to(outputs)
        size = 0 if path.is_dir() else path.stat().st_size
        check_allowed(name.as_posix() + "/" * path.is_dir(), size=size)
        if path.is_dir():
            folders.append(name)
        else:
            sizes[name] = size
    check_checkpoints(name.as_posix() for name in folders)
    _check_space(sum(sizes.values()), target)
    # Not with their modes: Bazel 8 leaves files and folders that only root can change or remove.
    for name in folders:
        (target / name).mkdir()
    for name in sizes:
        shutil.copyfile(outputs / name, target / name)


def _extract(archive: Path, target: Path) -> None:
    try:
        with _ArchiveFile(archive) as file, zipfile.ZipFile(file) as opened:
            members = opened.infolist()
            for member in members:
                _check_member(member, archive)
            check_checkpoints(member.filename for member in members)
            if len({member.filename for member in members}) < len(members):
                raise RequestError(f"{archive} holds a file twice: nothing is collected")
            _check_space(sum(member.file_size for member in members), target)
            for member in members:
                extracted = Path(opened.extract(member, target))
                if not member.is_dir() and extracted.stat().st_size != member.file_size:
                    raise zipfile.BadZipFile(f"{member.filename} has another size than its list of files says")
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise RequestError(f"{archive} is damaged ({error}): run the test again") from error


def _check_member(member: zipfile.ZipInfo, archive: Path) -> None:
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RequestError(f"{member.filename[:100]!a} in {archive} is not a regular file: nothing is collected")
    check_allowed(member.filename, size=member.file_size)
    # Of the other methods LZMA takes as much memory as the archive asks for.
    if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RequestError(
            f"{member.filename} in {archive} is encrypted or compressed as no test's outputs are: nothing is collected"
        )


class _ArchiveFile(io.FileIO):
    """A file that is never read in large pieces: zipfile reads the list of an archive's files at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        if (wanted := left if size is None or size < 0 else min(size, left)) > _MAX_READ:
            raise zipfile.BadZipFile(f"its list of files has {wanted:,} bytes")
        return super().read(size) or b""


def _check_space(size: int, target: Path) -> None:
    if size > (free := shutil.disk_usage(target).free):
        raise RequestError(f"the outputs take {size:,} bytes, {target.parent} has {free:,} free: nothing is collected")
