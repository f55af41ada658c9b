"""The language model that a run starts from, with LoRA if asked for, and its way to disk and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.data.chat_template import with_fixed_date
from src.training.model.architectures import is_language_model
from src.training.model.base_model import BaseModel
from src.training.model.lora import ADAPTER, Lora, check_targets, save_weights, without_adapter
from src.training.model.pretrained import (
    check_vocabulary,
    empty_model,
    load_adapter,
    load_config,
    load_model,
    load_tokenizer,
)

MODEL_CLASS = "AutoModelForCausalLM"


def check_language_model(base: BaseModel, *, because: str = "") -> None:
    """Refuses a base model whose config names another kind of model.

    Args:
        base: the model.
        because: why it has to be a language model, for the message.

    Raises:
        RequestError: it is none.
    """
    config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
    architectures = config.get("architectures") or []
    if architectures and not is_language_model(architectures):
        raise RequestError(
            f"{base.content['source']} is not a language model (its config names {', '.join(architectures)}){because}: "
            "choose one, such as --model_name_or_path embedded:smollm2-135m-instruct"
        )


def load_language_tokenizer(base: BaseModel) -> Any:
    """Loads the tokenizer of a language model.

    Raises:
        RequestError: there is none, or it knows tokens that the model does not.
    """
    name = base.content["source"]
    tokenizer = load_tokenizer(base.folder, name=name)
    check_vocabulary(tokenizer, rows=load_config(base.folder).get_text_config().vocab_size, name=name)
    if tokenizer.pad_token_id is None:
        # What everybody does by hand; what is padding is known by the rows' lengths, never by this id.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_targets_of(base: BaseModel, lora: Lora) -> None:
    """Refuses adapters that a language model cannot have, before its weights are read.

    Raises:
        RequestError: as `check_targets`.
    """
    if not lora.is_everywhere:
        check_targets(empty_model(base.folder, model_class=MODEL_CLASS), lora.target_modules)


def load_language_model(base: BaseModel) -> Any:
    """Loads a language model.

    Raises:
        RequestError: the files are not such a model.
    """
    import torch

    name = base.content["source"]
    check_language_model(base)
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
    return model


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
    if isinstance(tokenizer.chat_template, str):
        # Whoever asks the model is to write what it has learnt, whatever the day.
        tokenizer.chat_template = with_fixed_date(tokenizer.chat_template)
    tokenizer.save_pretrained(folder)


def load_merged(folder: Path) -> Any:
    """Loads the merged weights of a model that `save_language_model` wrote."""
    return load_model(folder, model_class=MODEL_CLASS)


def load_with_adapter(base: BaseModel, folder: Path) -> Any:
    """Loads the base and puts the adapter of a folder that `save_language_model` wrote on it.

    Raises:
        RequestError: the adapter does not go with the base.
    """
    return load_adapter(load_language_model(base), folder / ADAPTER)
