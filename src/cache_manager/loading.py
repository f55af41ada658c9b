"""Opens a model in the time it takes to map its file: no random weights first, and no second copy of any.

The modules are built without memory (torch's meta device), and each weight becomes a view into the mapped file. Pages
are read when they are first used, and a weight that is written to is copied by the kernel, page by page: training goes
on as with any model, and the file is never changed.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.errors import RequestError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"

log = logging.getLogger("finetune.cache")


def load_model(folder: Path, *, preload: bool = False) -> PreTrainedModel:
    """Opens the model of a folder, as the class that its config names, ready to predict.

    What `from_pretrained` would have to convert (old names, other types, quantised weights) is left to it.

    Args:
        folder: config.json and safetensors. Nothing in it is executed, and no pickle is read.
        preload: have the kernel read the files ahead, at the speed of the disk, while the modules are built.

    Raises:
        RequestError: the folder holds no such model.
    """
    import transformers
    from safetensors import SafetensorError

    files = _weight_files(folder)
    if preload:
        for path in files:
            _read_ahead(path)
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind = _class_of(config, folder)
    try:
        weights = _mapped(files)
        if _is_plain(config, weights):
            model = _on_mapped_weights(kind, config, weights)
            if model is not None:
                return model
    except SafetensorError as error:
        raise RequestError(f"{folder} holds damaged weights ({error}): `verify` and `repair` it") from error
    log.info("%s needs conversions: loading it by from_pretrained", folder)
    loaded: PreTrainedModel = kind.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    return loaded


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a folder."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer


def _weight_files(folder: Path) -> list[Path]:
    """Returns the model's safetensors, one or the shards that an index names."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if (folder / _INDEX).is_file():
        names = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        # An index is content like any other: a name out of it must stay in the folder.
        files = [folder / name for name in sorted(names) if Path(name).name == name]
        if files and len(files) == len(names) and all(path.is_file() for path in files):
            return files
    raise RequestError(f"{folder} holds no whole set of safetensors: pickles are not loaded from the cache")


def _read_ahead(path: Path) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def _class_of(config: Any, folder: Path) -> Any:
    import transformers

    names = config.architectures or []
    kind = getattr(transformers, names[0], None) if len(names) == 1 else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise RequestError(f"{folder}: transformers has no model class {', '.join(names) or '(none is named)'}")
    return kind


def _mapped(files: list[Path]) -> dict[str, torch.Tensor]:
    """Returns every weight as a view into its mapped file."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for path in files:
        weights |= load_file(path)
    return weights


def _is_plain(config: Any, weights: dict[str, torch.Tensor]) -> bool:
    """Whether the weights are to be used as they are stored."""
    kinds = {weight.dtype for weight in weights.values() if weight.is_floating_point()}
    return getattr(config, "quantization_config", None) is None and kinds <= {config.dtype or next(iter(kinds), None)}


def build_without_weights(kind: Any, config: Any) -> Any:
    """Builds a model's modules with no memory behind their weights, and draws no random numbers for them."""
    import torch
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        return kind._from_config(config)


def _on_mapped_weights(kind: Any, config: Any, weights: dict[str, torch.Tensor]) -> PreTrainedModel | None:
    """Builds the model around its weights; returns None where names or shapes do not fit exactly."""
    model = build_without_weights(kind, config)
    expected = model.state_dict()
    tied = set(model.all_tied_weights_keys)
    if (expected.keys() - weights.keys()) - tied or weights.keys() - expected.keys():
        return None
    if any(expected[name].shape != weight.shape for name, weight in weights.items()):
        return None
    model.load_state_dict(weights, strict=False, assign=True)
    _fill_buffers(model)
    model.tie_weights()
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return None
    _read_generation_config(model, Path(config._name_or_path))
    return model.eval()


def _fill_buffers(model: Any) -> None:
    """Computes the buffers that no file holds (positions, rotary frequencies), as transformers' own loader does."""
    import torch

    buffers = list(model.named_non_persistent_buffers())
    if not buffers:
        return
    owners = set()
    for name, buffer in buffers:
        path, _, last = name.rpartition(".")
        owner = model.get_submodule(path)
        owner.register_buffer(last, torch.empty_like(buffer, device="cpu"), persistent=False)
        owners.add(owner)
    for module in model.modules():
        module._is_hf_initialized = module not in owners
    for tensor in model.state_dict(keep_vars=True).values():
        # transformers' initialisation leaves alone what bears this mark.
        tensor._is_hf_initialized = True
    for name in model.all_tied_weights_keys:
        model.get_parameter(name)._is_hf_initialized = True
    model.initialize_weights()


def _read_generation_config(model: Any, folder: Path) -> None:
    from transformers import GenerationConfig

    if model.can_generate() and (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
