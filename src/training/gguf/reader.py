"""Reads GGUF files, llama.cpp's format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

gguf's own GGUFReader takes 3 seconds for the vocabulary of a small model, and trusts every length in the file.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.cli.errors import RequestError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A tensor as the file stores it.

    Attributes:
        name: llama.cpp's.
        shape: outermost dimension first, as numpy has it.
        kind: number of its GGMLQuantizationType.
        data: its bytes, by rows; a view into the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    data: np.ndarray

    def dequantized(self) -> np.ndarray:
        """Returns the values as float32, in `shape`."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        kind = GGMLQuantizationType(self.kind)
        stored = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
        if stored is not None:
            return self.data.view(stored).astype(np.float32)
        return dequantize(self.data, kind)


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """What a GGUF file holds."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf(path: Path) -> GgufFile:
    """Reads a file; the tensors stay on disk until they are asked for.

    Raises:
        RequestError: it is not such a file, is damaged, or one of several parts.
    """
    with path.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise RequestError(f"{path} is not a GGUF file: name a folder of a model, or a file that llama.cpp runs")
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _parse(path, content)
    # struct.error: the file ends within a number. Lengths of gigabytes overflow.
    except (struct.error, ArithmeticError, LookupError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> RequestError:
    return RequestError(f"{path} is damaged or incomplete ({why}): download it again")


def _parse(path: Path, content: mmap.mmap) -> GgufFile:
    cursor = _Cursor(content, at=len(_MAGIC))
    version = cursor.scalar("I")
    if version not in _VERSIONS:
        raise RequestError(f"{path} is a GGUF file of version {version}, not of 2 or 3: convert it with llama.cpp anew")
    tensor_count, key_count = cursor.scalar("Q"), cursor.scalar("Q")
    metadata = {cursor.string(): cursor.value(cursor.scalar("I")) for _ in range(key_count)}
    if metadata.get("split.count", 1) > 1:
        raise RequestError(
            f"{path} is one of {metadata['split.count']} parts: join them with llama.cpp's llama-gguf-split --merge"
        )
    headers = [
        (cursor.string(), cursor.scalars("Q", cursor.scalar("I")), cursor.scalar("I"), cursor.scalar("Q"))
        for _ in range(tensor_count)
    ]
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    start = math.ceil(cursor.at / alignment) * alignment
    stored = np.frombuffer(content, dtype=np.uint8)
    tensors = {
        name: _tensor(path, stored[start + offset :], name=name, shape=tuple(reversed(dimensions)), kind=kind)
        for name, dimensions, kind, offset in headers
    }
    return GgufFile(path=path, metadata=metadata, tensors=tensors)


def _tensor(path: Path, stored: np.ndarray, *, name: str, shape: tuple[int, ...], kind: int) -> GgufTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        values, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError) as error:
        raise RequestError(f"{path} stores {name} in a format that is not known here (number {kind})") from error
    if not shape or shape[-1] % values:
        raise _damaged(path, f"shape of {name}")
    row = shape[-1] // values * size
    length = math.prod(shape[:-1]) * row
    if length > len(stored):
        raise _damaged(path, f"the data of {name} is cut short")
    return GgufTensor(name=name, shape=shape, kind=kind, data=stored[:length].reshape(*shape[:-1], row))


class _Cursor:
    """Values one after another; little-endian."""

    def __init__(self, content: mmap.mmap, *, at: int) -> None:
        self._content = content
        self.at = at

    def scalars(self, code: str, count: int) -> tuple[Any, ...]:
        layout = struct.Struct(f"<{count}{code}")
        values = layout.unpack_from(self._content, self.at)
        self.at += layout.size
        return values

    def scalar(self, code: str) -> Any:
        return self.scalars(code, 1)[0]

    def string(self) -> str:
        length = self.scalar("Q")
        end = self.at + length
        if end > len(self._content):
            raise struct.error("a text is cut short")
        text = self._content[self.at : end]
        self.at = end
        return text.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            return list(self.scalars(_SCALARS[kind], count))
        return [self.value(kind) for _ in range(count)]
