"""Low-rank adapters (Hu et al. 2021), by peft: put on a model, and written beside the weights they are merged into."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError, in_one_line
from src.cli.parser import did_you_mean
from src.disk.durable import write_json
from src.training.optimizer.word_embedding import word_embedding
from src.training.recipes.recipe import Recipe

ADAPTER = "adapter"
ALL_LINEAR = "all-linear"
CAUSAL_LM, SEQ_CLS = "CAUSAL_LM", "SEQ_CLS"
# As peft names it: what it trains whole of every SEQ_CLS model.
_HEADS = ("classifier", "score")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """What adapters there are."""

    r: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe) -> Lora | None:
        """Returns the adapters that a recipe asks for; None if it trains all weights."""
        if not recipe.use_peft:
            return None
        return cls(
            r=recipe.lora_r,
            alpha=recipe.lora_alpha,
            dropout=recipe.lora_dropout,
            target_modules=recipe.lora_target_modules,
        )

    @property
    def is_everywhere(self) -> bool:
        """Whether every linear layer gets one."""
        return self.target_modules == (ALL_LINEAR,)


def add_lora(
    model: Any, lora: Lora, *, seed: int, base_name: str, task_type: str, new_weights: Collection[str] = ()
) -> Any:
    """Returns peft's model around a model whose own weights are frozen.

    Args:
        model: of transformers.
        lora: the adapters.
        seed: of their random halves.
        base_name: what adapter_config.json calls the base.
        task_type: CAUSAL_LM or SEQ_CLS.
        new_weights: names of weights that the base does not have. Their modules are trained whole and belong to the
            adapter: nobody else could draw them again (peft#310).

    Raises:
        RequestError: a target module is not there, or cannot have an adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    whole = {name.rpartition(".")[0] for name in new_weights}
    if not lora.is_everywhere:
        heads = {name for name in _HEADS if task_type == SEQ_CLS and hasattr(model, name)}
        check_targets(model, lora.target_modules, whole=whole | heads)
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type=task_type,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if lora.is_everywhere else list(lora.target_modules),
        # A head of several layers is wrapped once, as one.
        modules_to_save=sorted(name for name in whole if name.partition(".")[0] not in _HEADS) or None,
    )
    try:
        with warnings.catch_warnings():
            # Of what peft itself calls in transformers, and that GPT-2's matrices are transposed, which it sees to.
            warnings.simplefilter("ignore")
            wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise RequestError(
            f"--lora_target_modules {', '.join(lora.target_modules)}: {in_one_line(error, limit=200)}"
        ) from error
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped


def check_targets(model: Any, names: Sequence[str], *, whole: Collection[str] = ()) -> None:
    """Refuses names that match no module: peft passes over one as long as another matches (peft#1959).

    Args:
        model: of transformers; its weights may be on the meta device.
        names: of target modules.
        whole: modules that are trained whole.

    Raises:
        RequestError: a name matches nothing, or nothing that can have an adapter.
    """
    modules = {name: module for name, module in model.named_modules() if name}

    def matches(name: str) -> list[str]:
        return [path for path in modules if path == name or path.endswith(f".{name}")]

    linear = sorted({path.rpartition(".")[2] for path, module in modules.items() if _is_matrix(module)})
    if missing := [name for name in names if not matches(name)]:
        near = did_you_mean(missing[0], linear)
        raise RequestError(
            f"--lora_target_modules {', '.join(missing)}: the model has no module of that name{near}; it has "
            f"{', '.join(linear)}"
        )
    if other := [name for name in names if not any(_is_matrix(modules[path]) for path in matches(name))]:
        raise RequestError(
            f"--lora_target_modules {', '.join(other)}: an adapter is for a linear layer or an embedding; the model "
            f"has {', '.join(linear)}"
        )
    if new := [name for name in names if all(_is_within(path, whole) for path in matches(name))]:
        raise RequestError(
            f"--lora_target_modules {', '.join(new)}: the base does not have its weights, so they are trained whole; "
            "leave it out"
        )
    head, embedding = model.get_output_embeddings(), word_embedding(model)
    if head is not None and embedding is not None and head.weight is embedding.weight:
        tied = {path.rpartition(".")[2] for path, module in modules.items() if module is head or module is embedding}
        if wrong := sorted(tied & set(names)):
            raise RequestError(
                f"--lora_target_modules {', '.join(wrong)}: this model's head is tied to its embeddings, and an "
                "adapter on one of them is lost when the merged weights are loaded (transformers#45127); leave it out"
            )


def _is_matrix(module: Any) -> bool:
    # GPT-2's Conv1D has its sizes under other names.
    return any(hasattr(module, name) for name in ("out_features", "nf", "embedding_dim"))


def _is_within(path: str, whole: Collection[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in whole)


def is_adapted(model: Any) -> bool:
    """Whether a model is peft's around another."""
    return hasattr(model, "peft_config")


def without_adapter(model: Any) -> Any:
    """Returns transformers' model, which peft's may be around."""
    return model.get_base_model() if is_adapted(model) else model


def check_moved(model: Any) -> None:
    """Fails where the adapter is the one that training began with (peft#793); a model without one passes.

    Raises:
        RuntimeError: it is.
    """
    if is_adapted(model) and not any(weight.any() for name, weight in model.named_parameters() if "lora_B" in name):
        raise RuntimeError("training left the adapter as it was: nothing was kept")


def save_weights(model: Any, folder: Path, *, merged: bool) -> None:
    """Writes a model's weights: an adapter in a folder of its own, and what it is merged into.

    A loader that found both in one folder would apply the adapter twice (transformers#43781).

    Args:
        model: of transformers, or peft's around it. The adapter of the latter is merged into its weights.
        folder: where to.
        merged: whether the weights with the adapter merged into them are written; without an adapter they always are.
    """
    if not is_adapted(model):
        model.save_pretrained(folder)
        return
    _save_adapter(model, folder / ADAPTER)
    if merged:
        model.merge_and_unload().save_pretrained(folder)
        return
    plain = model.get_base_model()
    plain.config.architectures = [type(plain).__name__]
    plain.config.save_pretrained(folder)


def _save_adapter(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, save_embedding_layers=False)
    # A template of a card, without a word about this model.
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    for name in ("target_modules", "modules_to_save"):
        if isinstance(fields[name], list):
            # A set's order differs from run to run.
            fields[name].sort()
    write_json(config, fields)


def free_frozen_weights(model: Any) -> None:
    """Gives the memory of weights that were not trained back. The model cannot compute any more."""
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.new_empty(0)


def has_adapter_alone(folder: Path) -> bool:
    """Whether a model's folder has its adapter, and no merged weights."""
    return (folder / ADAPTER).is_dir() and not any(folder.glob("*.safetensors"))
