"""The language model that a run starts from, with LoRA if asked for, and its way to disk and back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean
from src.disk.durable import write_json
from src.training.data.chat_template import with_fixed_date
from src.training.model.base_model import BaseModel
from src.training.model.pretrained import load_adapter, load_config, load_model, load_tokenizer

MODEL_CLASS = "AutoModelForCausalLM"
ADAPTER = "adapter"
ALL_LINEAR = "all-linear"


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021), as peft has them."""

    r: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]


def is_language_model(architectures: Sequence[str]) -> bool:
    """Whether a config's architectures name a model that continues text."""
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)


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
    if architectures and not is_language_model(architectures):
        raise RequestError(
            f"{name} is not a language model (its config names {', '.join(architectures)}): choose one, such as "
            "embedded:smollm2-135m-instruct"
        )


def add_lora(model: Any, lora: Lora, *, seed: int, base_name: str, task_type: str = "CAUSAL_LM") -> Any:
    """Returns peft's model around a model whose own weights are frozen.

    Args:
        model: of transformers.
        lora: the adapters.
        seed: of their random halves.
        base_name: what adapter_config.json calls the base.
        task_type: peft's.

    Raises:
        RequestError: a target module is not there, or cannot have an adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    is_all = lora.target_modules == (ALL_LINEAR,)
    if not is_all:
        _check_targets(model, lora.target_modules)
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type=task_type,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if is_all else list(lora.target_modules),
    )
    with warnings.catch_warnings():
        # Of what peft itself calls in transformers.
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = get_peft_model(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped


def _check_targets(model: Any, names: Sequence[str]) -> None:
    """Refuses names that match no module: peft passes over one as long as another matches (peft#1959)."""
    modules = dict(model.named_modules())
    leaves = {name.rpartition(".")[2] for name, module in modules.items() if name and not list(module.children())}
    missing = [name for name in names if not any(path == name or path.endswith(f".{name}") for path in modules)]
    if missing:
        near = did_you_mean(missing[0], sorted(leaves))
        linear = sorted(
            {name.rpartition(".")[2] for name, module in modules.items() if hasattr(module, "out_features")}
        )
        raise RequestError(
            f"--lora_target_modules {', '.join(missing)}: the model has no module of that name{near}; it has "
            f"{', '.join(linear)}"
        )
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        tied = {path.rpartition(".")[2] for path, module in modules.items() if module is head or module is embedding}
        if wrong := sorted(tied & set(names)):
            raise RequestError(
                f"--lora_target_modules {', '.join(wrong)}: this model's head is tied to its embeddings, and an "
                "adapter on one of them is lost when the merged weights are loaded (transformers#45127); leave it out"
            )


def save_language_model(model: Any, tokenizer: Any, folder: Path, *, stop_ids: Sequence[int], merged: bool) -> None:
    """Writes a trained model: its weights with the adapter merged into them, and the adapter in a folder of its own.

    A loader that found both in one folder would apply the adapter twice (transformers#43781).

    Args:
        model: of transformers, or peft's around it. The adapter of the latter is merged into its weights.
        tokenizer: of the model.
        folder: where to.
        stop_ids: tokens that end an answer, for the generation config.
        merged: whether the merged weights are written.
    """
    plain = model
    if hasattr(model, "peft_config"):
        # Otherwise peft asks the hub for the base's config.
        model.save_pretrained(folder / ADAPTER, save_embedding_layers=False)
        # A template of a card, without a word about this model.
        (folder / ADAPTER / "README.md").unlink(missing_ok=True)
        config = folder / ADAPTER / "adapter_config.json"
        fields = json.loads(config.read_text(encoding="utf-8"))
        if isinstance(fields["target_modules"], list):
            # A set's order differs from run to run.
            fields["target_modules"].sort()
        write_json(config, fields)
        plain = model.get_base_model()
    generation = plain.generation_config
    generation.eos_token_id = stop_ids[0] if len(stop_ids) == 1 else list(stop_ids)
    generation.pad_token_id = tokenizer.pad_token_id
    if plain is model:
        model.save_pretrained(folder)
    elif merged:
        model.merge_and_unload().save_pretrained(folder)
    else:
        plain.config.save_pretrained(folder)
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
    model, _ = load_language_model(base)
    return load_adapter(model, folder / ADAPTER)


def has_adapter_alone(folder: Path) -> bool:
    """Whether a model's folder has its adapter, and no merged weights."""
    return (folder / ADAPTER).is_dir() and not any(folder.glob("*.safetensors"))
