"""The language model that is asked: its files, and what they say, read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.data.prompt_form import PromptForm
from src.training.embedded import locate
from src.training.inference.model_folder import check_files, check_folder, read_object
from src.training.model.adapter_base import find_adapter_base
from src.training.model.architectures import is_language_model
from src.training.model.base_model import BaseModel, has_chat_template
from src.training.model.gguf_model import SUFFIX, gguf_model_folder
from src.training.model.lora import has_adapter_alone
from src.training.model.max_tokens import max_tokens
from src.training.model.pretrained import refuse_custom_code


@dataclass(frozen=True, kw_only=True)
class LanguageModelFolder:
    """A language model on disk.

    Attributes:
        name: as the user wrote it.
        folder: config and tokenizer, and weights or an adapter.
        base: of an adapter without merged weights; None: there are weights.
        prompt_form: that of its training; of a model trained elsewhere, its chat template, or else plain text.
        stop_ids: tokens that end an answer, as the model's own files name them.
        max_tokens: that it can read; None: any number.
    """

    name: str
    folder: Path
    base: BaseModel | None
    prompt_form: PromptForm
    stop_ids: frozenset[int]
    max_tokens: int | None


def find_language_model(name: str, *, user_folder: Path) -> LanguageModelFolder:
    """Finds a language model and reads its description.

    Args:
        name: a folder, a GGUF file, or embedded:NAME.
        user_folder: what a relative path is relative to, also that of an adapter's base.

    Raises:
        RequestError: there is no such model, it is a classifier, or the base of its adapter has moved.
    """
    folder = _folder(name, user_folder)
    check_folder(folder)
    config = read_object(folder / "config.json")
    refuse_custom_code(folder, name=name)
    _check_kind(config, name=name)
    is_alone = has_adapter_alone(folder)
    check_files(folder, weights=not is_alone)
    return LanguageModelFolder(
        name=name,
        folder=folder,
        base=find_adapter_base(folder, user_folder=user_folder) if is_alone else None,
        prompt_form=_prompt_form(folder),
        stop_ids=_stop_ids(config, folder),
        max_tokens=max_tokens(config),
    )


def _folder(name: str, user_folder: Path) -> Path:
    if name.startswith(locate.PREFIX):
        try:
            return locate.embedded_model(name.removeprefix(locate.PREFIX))
        except (FileNotFoundError, ValueError) as error:
            raise RequestError(str(error)) from error
    path = user_folder / Path(name).expanduser()
    return path if path.suffix != SUFFIX or path.is_dir() else gguf_model_folder(path, name=name)[0]


def _check_kind(config: dict[str, Any], *, name: str) -> None:
    architectures = config.get("architectures") or ()
    if any(kind.endswith("ForSequenceClassification") for kind in architectures):
        raise RequestError(f"{name} holds a classifier, not a language model: predict is the program for it")
    if architectures and not is_language_model(architectures):
        raise RequestError(
            f"{name} holds no language model (its config names {', '.join(architectures)}): train one first, with "
            "--task text-generation"
        )


def _prompt_form(folder: Path) -> PromptForm:
    recipe = read_object(folder / "recipe.json") if (folder / "recipe.json").is_file() else {}
    if "prompt" not in recipe:
        return PromptForm(form="chat" if has_chat_template(folder) else "plain")
    try:
        return PromptForm.from_json(recipe["prompt"])
    except (KeyError, TypeError) as error:
        raise RequestError(f"the prompt in {folder / 'recipe.json'} cannot be read: train the model again") from error


def _stop_ids(config: dict[str, Any], folder: Path) -> frozenset[int]:
    path = folder / "generation_config.json"
    found: set[int] = set()
    for content in (config, read_object(path) if path.is_file() else {}):
        ids = content.get("eos_token_id")
        found.update(ids if isinstance(ids, list) else () if ids is None else (ids,))
    return frozenset(found)
