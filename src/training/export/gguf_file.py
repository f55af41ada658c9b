"""Writes a language model as a GGUF file, for llama.cpp and the programs around it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quant_shape_to_byte_shape, quantize

from src.cli.errors import RequestError
from src.training.gguf.architecture import ROPE_FACTORS, Weight, metadata_of, rope_factors, weights_of
from src.training.gguf.vocabulary import vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# llama.cpp's names, with the number that says it in the file.
OUT_TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
}
_Q8_0_BLOCK = 32
_LARGEST_F16 = float(np.finfo(np.float16).max)

# Values of a tensor by its name in transformers, float32.
Tensors = Callable[[str], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class GgufModel:
    """A model that can be written.

    Attributes:
        keys: the metadata, by name.
        kinds: how each weight is stored.
        tensors: gives the values.
        rope_factors: values of ROPE_FACTORS; None: it has none.
    """

    keys: dict[str, Any]
    kinds: dict[Weight, GGMLQuantizationType]
    tensors: Tensors
    rope_factors: np.ndarray | None

    def matrices(self) -> Counter[str]:
        """Returns how many matrices are stored in each type, by its name."""
        return Counter(kind.name.lower() for weight, kind in self.kinds.items() if len(weight.shape) > 1)

    def write(self, path: Path) -> None:
        """Writes the file, one tensor in memory at a time."""
        # Its messages name the temporary file.
        logging.getLogger("gguf").setLevel(logging.WARNING)
        writer = GGUFWriter(path, "llama")
        try:
            for key, value in self.keys.items():
                _add(writer, key, value)
            for weight, kind in self.kinds.items():
                _announce(writer, weight, kind)
            if self.rope_factors is not None:
                writer.add_tensor_info(
                    ROPE_FACTORS, self.rope_factors.shape, np.dtype(np.float32), self.rope_factors.nbytes
                )
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for weight, kind in self.kinds.items():
                values = np.ascontiguousarray(weight.to_gguf(self.tensors(weight.name)))
                writer.write_tensor_data(quantize(values, kind))
            if self.rope_factors is not None:
                writer.write_tensor_data(self.rope_factors)
        finally:
            writer.close()


def gguf_model(
    config: PreTrainedConfig, *, tokenizer: Any, tensors: Tensors, stop_ids: list[int], name: str, out_type: str
) -> GgufModel:
    """Makes a model ready to be written, and checks every weight.

    Args:
        config: of the model.
        tokenizer: of transformers.
        tensors: gives the values.
        stop_ids: tokens that end an answer.
        name: of the model, for people.
        out_type: one of OUT_TYPES: how matrices are stored; vectors are float32.

    Raises:
        RequestError: the model is not a Llama, has what llama.cpp cannot do, or is damaged.
    """
    values = _llama(config)
    kind, file_kind = OUT_TYPES[out_type]
    rope = values["rope_parameters"]
    tokens = vocabulary(tokenizer, rows=values["vocab_size"], stop_ids=stop_ids)
    return GgufModel(
        keys={
            "general.name": name,
            "general.type": "model",
            "general.file_type": int(file_kind),
            "general.quantization_version": GGML_QUANT_VERSION,
            **{f"llama.{key}": value for key, value in metadata_of(values).items()},
            **{f"tokenizer.{key}": value for key, value in tokens.items()},
        },
        kinds={weight: _kind(weight, wanted=kind, tensors=tensors) for weight in weights_of(values)},
        tensors=tensors,
        rope_factors=rope_factors(rope, head_dim=values["head_dim"]) if rope["rope_type"] == "llama3" else None,
    )


def _llama(config: PreTrainedConfig) -> dict[str, Any]:
    if config.model_type != "llama":
        raise RequestError(f"its architecture is {config.model_type}, and only llama is exported")
    if list(config.architectures or []) != ["LlamaForCausalLM"]:
        raise RequestError(
            f"it is not a language model (its config names {', '.join(config.architectures or ['none'])})"
        )
    return config.to_dict()


def _kind(weight: Weight, *, wanted: GGMLQuantizationType, tensors: Tensors) -> GGMLQuantizationType:
    """Returns how a tensor is stored: as wanted, or in the next larger type that holds it."""
    values = tensors(weight.name)
    if values.shape != weight.shape:
        raise RequestError(f"its {weight.name} is {values.shape}, not {weight.shape}: the folder is damaged")
    if not np.isfinite(values).all():
        raise RequestError(f"its {weight.name} holds values that are not numbers: the training diverged")
    if len(weight.shape) == 1 or np.abs(values).max() > _LARGEST_F16:
        return GGMLQuantizationType.F32
    if wanted is GGMLQuantizationType.Q8_0 and weight.shape[-1] % _Q8_0_BLOCK:
        return GGMLQuantizationType.F16
    return wanted


def _announce(writer: GGUFWriter, weight: Weight, kind: GGMLQuantizationType) -> None:
    shape = quant_shape_to_byte_shape(weight.shape, kind)
    stored = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
    if stored is None:
        writer.add_tensor_info(weight.gguf, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
    else:
        writer.add_tensor_info(weight.gguf, weight.shape, np.dtype(stored), int(np.prod(shape)))


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


@contextmanager
def stored_tensors(folder: Path) -> Iterator[Tensors]:
    """Gives the tensors of a folder's safetensors files, each read when it is asked for.

    Raises:
        RequestError: a file is damaged, or a tensor is in none of them.
    """
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                # numpy has no bfloat16.
                opened = stack.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise RequestError(f"its {path.name} is damaged ({error})") from error
            files |= dict.fromkeys(opened.keys(), opened)

        def read(name: str) -> np.ndarray:
            if name not in files:
                raise RequestError(f"it has no {name}: the folder is incomplete")
            values: np.ndarray = files[name].get_tensor(name).float().numpy()
            return values

        yield read


def held_tensors(state: Mapping[str, Any]) -> Tensors:
    """Gives the tensors of a model in memory."""

    def read(name: str) -> np.ndarray:
        if name not in state:
            raise RequestError(f"it has no {name}")
        values: np.ndarray = state[name].detach().float().numpy()
        return values

    return read
