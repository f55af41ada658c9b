"""Turns a GGUF file into a folder as transformers writes it, with the weights in float32."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from src.cli.errors import RequestError
from src.training.gguf.architecture import ROPE_FACTORS, Weight, config_of, weights_of
from src.training.gguf.reader import GgufFile, read_gguf
from src.training.gguf.tokenizer import tokenizer_files

_ARCHITECTURE = "llama"


def convert(source: Path, folder: Path) -> None:
    """Writes the model of a GGUF file into an existing folder.

    The bits follow from the file alone: float32 products and sums of single values, and no version of a library.

    Raises:
        RequestError: it is not a Llama, is damaged, or has a tokenizer that is not known here.
    """
    file = read_gguf(source)
    architecture = file.metadata.get("general.architecture")
    if architecture != _ARCHITECTURE:
        raise RequestError(
            f"{source} holds a model of the architecture {architecture}, and only {_ARCHITECTURE} is read from GGUF "
            "files: use the folder that it was made of"
        )
    try:
        config, tokenizer = _config(file), tokenizer_files(file.metadata)
        weights = sorted(weights_of(config), key=lambda weight: weight.name)
    except RequestError as error:
        raise RequestError(f"{source} cannot be read: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RequestError(f"{source} cannot be read: its metadata lack or contradict {error}") from error
    _check(file, weights)
    generation = {name: value for name, value in config.items() if name.endswith("_token_id")}
    for name, content in {"config.json": config, "generation_config.json": generation}.items():
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name, text in tokenizer.items():
        (folder / name).write_bytes(text)
    _write_safetensors(folder / "model.safetensors", file, weights)


def _config(file: GgufFile) -> dict[str, Any]:
    layers, factors = file.metadata["llama.block_count"], file.tensors.get(ROPE_FACTORS)
    if layers > len(file.tensors):
        raise RequestError(f"{layers} layers cannot be made of its {len(file.tensors)} tensors")
    return config_of(
        file.metadata,
        tensors=set(file.tensors),
        rows=file.tensors["token_embd.weight"].shape[0],
        rope_factors=None if factors is None else factors.dequantized(),
    )


def _check(file: GgufFile, weights: Iterable[Weight]) -> None:
    """Compares the tensors of a file with those of its model."""
    expected = {weight.gguf: weight.shape for weight in weights}
    found = {name: tensor.shape for name, tensor in file.tensors.items() if name != ROPE_FACTORS}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise RequestError(
            f"{file.path} is not the Llama that it says: {name} is {found.get(name, 'missing')}, not "
            f"{expected.get(name, 'part of it')}"
        )


def _write_safetensors(path: Path, file: GgufFile, weights: list[Weight]) -> None:
    """Writes one tensor after another, so that one is in memory at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for weight in weights:
        start, end = end, end + 4 * int(np.prod(weight.shape))
        header[weight.name] = {"dtype": "F32", "shape": weight.shape, "data_offsets": [start, end]}
    described = json.dumps(header, separators=(",", ":")).encode("utf-8")
    # Blanks at its end, so that the values begin at a multiple of 8.
    described += b" " * (-len(described) % 8)
    with path.open("wb") as opened:
        opened.write(struct.pack("<Q", len(described)) + described)
        for weight in weights:
            values = weight.from_gguf(file.tensors[weight.gguf].dequantized())
            opened.write(np.ascontiguousarray(values, dtype="<f4").data)
