"""A zoo of hostile returns: what a sender can put into a model's folder, a JSON record or a zip archive.

Whoever receives models throws all of it at its door. Each animal has a printable name, for the test's report. Payloads
make a file, the marker, if anything runs them.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Changes a folder that was good.
Spoil = Callable[[Path], None]

_PYTHON = ("conftest.py", "sitecustomize.py", "modeling_bert.py", "tokenization.py", "__init__.py", "setup.py", "x.pth")
_SHELL = (".bashrc", ".profile", "install.sh", "Makefile", ".env", ".gitattributes", ".gitignore", ".bazelrc")
_BUILD = ("BUILD", "BUILD.bazel", "WORKSPACE", "MODULE.bazel", "REPO.bazel", "rules.bzl")
_PICKLES = (
    *("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "model.ckpt"),
    *("model.pkl", "model.pickle", "model.joblib", "weights.npy", "weights.npz", "tf_model.h5", "model.keras"),
)
_OTHERS = (
    *("adapter_config.json", "adapter_model.safetensors", "flax_model.msgpack", "model.onnx", "libevil.so", "page.svg"),
    # Nearly names of a model's files.
    *(
        "CONFIG.JSON",
        "config.json ",
        "config.json.",
        "config.json\n",
        "c\u043enfig.json",
        "recipe.json~",
        "config.json\t",
    ),
    *("model-1-of-2.safetensors", "model-\uff10\uff10001-of-00002.safetensors", "model.safetensors.py"),
    # What a terminal, a shell, a log or another system takes for something else.
    *(
        "\x1b[2Jx.json",
        "\x1b]0;title\x07",
        "\x9b2J",
        "x\ncollect: done",
        "x\rdone",
        "\u202egnp.json",
        "\u200b",
        " ",
        "-rf",
    ),
    *("~", "$(id)", "`id`", "a;b", "a\\b", "%s", "{x}", "...", "CON", "x" * 255, "\udcff.json"),
)
_ESCAPE = "\x1b[2J\x1b]0;owned\x07\u202e\nforged: line\x9b2J"
_WRONG_VALUES: tuple[Any, ...] = (None, True, -1, 10**30, 1e308, "", _ESCAPE, "x" * 100_000, [], [[]], {}, {_ESCAPE: 1})


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, ...]]:
        return os.mkdir, (str(self._marker),)


def odd_files(marker: Path) -> dict[str, bytes]:
    """Returns regular files that have no place in a model's folder, with what is in them by name.

    Names may hold any character that Linux allows, also surrogates for bytes that are not UTF-8.
    """
    shell = f"mkdir {marker}\n".encode()
    build = f'genrule(name = "x", outs = ["y"], cmd = "mkdir {marker}; touch $@", local = 1)\n'.encode()
    return {
        **dict.fromkeys(_PYTHON, f"import os; os.mkdir({str(marker)!r})\n".encode()),
        **dict.fromkeys(_SHELL, shell),
        **dict.fromkeys(_BUILD, build),
        **dict.fromkeys(_PICKLES, pickle.dumps(_Runs(marker))),
        **dict.fromkeys(_OTHERS, b"{}"),
    }


def odd_folders(marker: Path) -> Iterator[tuple[str, Spoil]]:
    """Yields what spoils a model's folder by a file, folder, link or device more."""
    for name, content in odd_files(marker).items():
        yield f"file {name[:40]!a}", _adding(name, content)
        if name in ("BUILD", "conftest.py", "model.pkl"):
            yield f"file sub/{name}", _adding(f"sub/{name}", content)
            yield f"file {name} behind a link", _linking(name, marker.parent)
    yield "empty folder", lambda folder: (folder / "sub").mkdir()
    yield "folder with a file's name", lambda folder: (folder / "vocab.json").mkdir()
    yield "model in the model", _adding("model/config.json", b"{}")
    yield "deep nesting", _nesting
    yield "many files", _crowding
    yield "link to a file", _linking("merges.txt", Path("/etc/hostname"))
    yield "link to a folder", _linking("sub", Path("/etc"))
    yield "link upwards", _linking("sub", Path("../.."))
    yield "link to nothing", _linking("merges.txt", Path("nothing"))
    yield "link to itself", _linking("merges.txt", Path("merges.txt"))
    yield "link to a device", _linking("merges.txt", Path("/dev/zero"))
    yield "named pipe", lambda folder: os.mkfifo(folder / "merges.txt")
    yield "socket", _listening
    yield "more than the disk holds", _swelling


def _adding(name: str, content: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return spoil


def _linking(name: str, target: Path) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).symlink_to(target)

    return spoil


def _nesting(folder: Path) -> None:
    # Not 1000: with so many levels pytest cannot remove its own folder.
    (folder / "/".join("d" * 300)).mkdir(parents=True)


def _crowding(folder: Path) -> None:
    for number in range(2000):
        (folder / f"x{number}.json").touch()


def _listening(folder: Path) -> None:
    # A socket's path holds 107 characters, and a test's folder may be longer.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{descriptor}/socket")
    finally:
        os.close(descriptor)


def _swelling(folder: Path) -> None:
    with (folder / "merges.txt").open("wb") as file:
        # No more than file systems allow.
        file.truncate(min(2 * shutil.disk_usage(folder).total, 1 << 43))


def odd_texts() -> dict[str, bytes]:
    """Returns what may stand in a JSON file's place, by name; none of it is a JSON object in UTF-8."""
    return {
        "empty": b"",
        "zeros": bytes(4096),
        "not UTF-8": b'{"a": "\xff"}',
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "truncated": b'{"a": ',
        "list": b"[]",
        "null": b"null",
        "text": json.dumps(_ESCAPE).encode(),
        "number": b"1",
        "number of 10,000 digits": b'{"a": ' + b"9" * 10_000 + b"}",
        "deep lists": b"[" * 100_000,
        "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "escapes": _ESCAPE.encode(),
    }


def wrong_types(document: Any) -> Iterator[tuple[str, Any]]:
    """Yields the document with one value of another type or size each, wherever a value stands; also without it."""
    for path in _paths(document):
        where = ".".join(map(str, path)) or "all"
        for wrong in _WRONG_VALUES:
            yield f"{where} = {json.dumps(wrong)[:24]}", _replaced(document, path, wrong)
        if path and isinstance(path[-1], str):
            yield f"no {where}", _without(document, path)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        # One item stands for all.
        children = list(enumerate(value[:1]))
    for name, child in children:
        yield from _paths(child, (*path, name))


def _replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _without(document: Any, path: tuple[str | int, ...]) -> Any:
    changed = copy.deepcopy(document)
    del _at(changed, path[:-1])[path[-1]]
    return changed


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


def odd_zips(files: Mapping[str, bytes], *, place: str, marker: Path) -> Iterator[tuple[str, bytes]]:
    """Yields zip archives, each spoiled in one way.

    Args:
        files: a good archive's content by name.
        place: the folder in it that gets what is odd.
        marker: as for `odd_files`.
    """
    first = min(name for name in files if name.startswith(f"{place}/"))
    # A zip's names are UTF-8 or cp437.
    for name, content in odd_files(marker).items():
        if name.isprintable():
            yield f"file {name[:40]!a}", _zip({**files, f"{place}/{name}": content})
    for name in ("../out", "/out", "..\\out", "C:\\out", f"{place}/../../out", f"./{first}", f"{place}//x", "", "."):
        yield f"name {name!a}", _zip(files, (zipfile.ZipInfo(name), b"x"))
    for kind in (0o120777, 0o010644, 0o140644, 0o020644, 0o060644):
        member = zipfile.ZipInfo(f"{place}/merges.txt")
        member.external_attr = kind << 16
        yield f"mode {kind:o}", _zip(files, (member, b"/etc/hostname"))
    yield "a file twice", _zip(files, (zipfile.ZipInfo(first), b"{}"))
    yield (
        "a file that is a folder too",
        _zip(files, (zipfile.ZipInfo(f"{first}/"), b""), (zipfile.ZipInfo(f"{first}/x"), b"")),
    )
    yield "a bomb", _zip({**files, f"{place}/report.html": bytes(300 << 20)})
    yield "many files", _zip({**files, **{f"{place}/x{number}": b"" for number in range(5000)}})
    for name, method in (("stored", zipfile.ZIP_STORED), ("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        whole = _zip({first: bytes(5000)}, method=method)
        start = 30 + len(first)
        yield f"damaged {name}", whole[:start] + b"\xff" * 12 + whole[start + 12 :]
    whole = _zip(files)
    at = whole.rindex(b"PK\x01\x02")
    yield "a method that nobody knows", _patched(whole, at + 10, struct.pack("<H", 99))
    yield "encrypted", _patched(whole, at + 8, struct.pack("<H", 1))
    yield "a size that is a lie", _patched(whole, at + 24, struct.pack("<L", 1 << 20))
    yield "more than the disk holds", _patched(whole, at + 24, struct.pack("<L", (1 << 32) - 2))
    yield "a member outside the archive", _patched(whole, at + 42, struct.pack("<L", (1 << 32) - 2))
    yield "another name inside", whole.replace(first.encode(), b"x" * len(first.encode()), 1)
    yield "truncated", whole[: len(whole) // 2]
    yield "no archive", b"PK\x03\x04 and no more"
    yield "nothing", b""


def _zip(files: Mapping[str, bytes], *more: tuple[zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method, compresslevel=1) as archive, warnings.catch_warnings():
        # A name twice is what some of this is about.
        warnings.simplefilter("ignore", UserWarning)
        for name, content in files.items():
            archive.writestr(name, content)
        for member, content in more:
            archive.writestr(member, content)
    return written.getvalue()


def _patched(whole: bytes, at: int, patch: bytes) -> bytes:
    return whole[:at] + patch + whole[at + len(patch) :]
