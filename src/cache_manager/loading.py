"""Loads the model and the tokenizer of a folder from safetensors only: nothing in the folder is executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.errors import RequestError
from src.cli.working_folder import working_folder
from src.training.model import pretrained
from src.training.model.adapter_base import find_adapter_base, load_adapted_classifier
from src.training.model.architectures import is_language_model
from src.training.model.language_model import load_with_adapter
from src.training.model.lora import has_adapter_alone
from src.training.model.model_files import WEIGHTS, shards

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def load_model(folder: Path) -> PreTrainedModel:
    """Loads a folder's model as the class that its config names, ready to predict.

    Raises:
        RequestError: the folder has no whole set of safetensors, damaged ones, or a class that transformers lacks; or
            it has an adapter alone, whose base has moved. Or some of the model's weights are missing: transformers
            would fill them with random numbers.
    """
    if has_adapter_alone(folder):
        return _load_adapted(folder)
    if not _has_safetensors(folder):
        raise RequestError(f"{folder} has no whole set of safetensors: pickles are not loaded from the cache")
    config = pretrained.load_config(folder)
    model_class = _class_of(config, folder)
    try:
        loaded = pretrained.load_model(folder, model_class=model_class, config=config, output_loading_info=True)
    except RequestError as error:
        raise RequestError(f"{error}: `verify` and `repair` it") from error
    model: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise RequestError(f"{folder} lacks weights of its model ({', '.join(missing[:3])}): train or import it again")
    return model


def _load_adapted(folder: Path) -> PreTrainedModel:
    base = find_adapter_base(folder, user_folder=working_folder())
    names = pretrained.load_config(folder).architectures or ()
    load = load_with_adapter if is_language_model(names) else load_adapted_classifier
    model: PreTrainedModel = load(base, folder).merge_and_unload().eval()
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a folder."""
    tokenizer: PreTrainedTokenizerBase = pretrained.load_tokenizer(folder)
    return tokenizer


def _has_safetensors(folder: Path) -> bool:
    """Whether the folder has model.safetensors, or every shard that the index names."""
    if (folder / _WEIGHTS).is_file():
        return True
    if not (folder / _INDEX).is_file():
        return False
    try:
        names = shards(folder / _INDEX)
    except ValueError as error:
        raise RequestError(f"{folder}: {error}") from error
    # An index is content like any other: a name in it must not lead out of the folder.
    return all(re.fullmatch(WEIGHTS, name) and (folder / name).is_file() for name in names)


def _class_of(config: Any, folder: Path) -> str:
    """Returns the name of the model's class in transformers."""
    import transformers

    names = config.architectures if isinstance(config.architectures, list) else []
    model_class = getattr(transformers, str(names[0]), None) if len(names) == 1 else None
    if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
        raise RequestError(
            f"{folder}: transformers has no model class {', '.join(map(str, names)) or '(none is named)'}"
        )
    return names[0]
