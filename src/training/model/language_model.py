"""The language model that a run starts from, with LoRA if asked for, and its way to disk and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.model.base_model import BaseModel
from src.training.model.lora import ADAPTER, save_weights, without_adapter
from src.training.model.pretrained import load_adapter, load_config, load_model, load_tokenizer

MODEL_CLASS = "AutoModelForCausalLM"


def load_language_model(base: BaseModel) -> tuple[Any, Any]:
    """Loads a language model and its tokenizer.

    Raises:
        RequestError: the files are not such a model.
    """
    import torch

    name = base.content["source"]
    _check_architecture(base.folder, name=name)
    tokenizer = load_tokenizer(base.folder, name=name)
    model, loaded = load_model(
        base.folder,
        name=name,
        model_class=MODEL_CLASS,
        # Weights stored as bfloat16 would be trained as such: slow and inexact on most CPUs.
        dtype=torch.float32,
        use_safetensors=any(base.folder.glob("*.safetensors")),
        output_loading_info=True,
    )
    if missing := sorted(loaded["missing_keys"]):
        raise RequestError(
            f"{name} lacks weights of a language model ({', '.join(missing[:3])}): they would be random; choose "
            "another model"
        )
    if tokenizer.pad_token_id is None:
        # What everybody does by hand; what is padding is known by the rows' lengths, never by this id.
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _check_architecture(folder: Path, *, name: str) -> None:
    architectures = load_config(folder).architectures or []
    if architectures and not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in architectures):
        raise RequestError(
            f"{name} is not a language model (its config names {', '.join(architectures)}): choose one, such as "
            "embedded:smollm2-135m-instruct"
        )


def save_language_model(model: Any, tokenizer: Any, folder: Path, *, stop_ids: Sequence[int], merged: bool) -> None:
    """Writes a trained model: see `save_weights`.

    Args:
        model: of transformers, or peft's around it.
        tokenizer: of the model.
        folder: where to.
        stop_ids: tokens that end an answer, for the generation config.
        merged: whether the merged weights are written.
    """
    generation = without_adapter(model).generation_config
    generation.eos_token_id = stop_ids[0] if len(stop_ids) == 1 else list(stop_ids)
    generation.pad_token_id = tokenizer.pad_token_id
    save_weights(model, folder, merged=merged)
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_merged(folder: Path) -> Any:
    """Loads the merged weights of a model that `save_language_model` wrote."""
    return load_model(folder, model_class=MODEL_CLASS)


def load_with_adapter(base: BaseModel, folder: Path) -> Any:
    """Loads the base and puts the adapter of a folder that `save_language_model` wrote on it.

    Raises:
        RequestError: the adapter does not go with the base.
    """
    model, _ = load_language_model(base)
    return load_adapter(model, folder / ADAPTER)
