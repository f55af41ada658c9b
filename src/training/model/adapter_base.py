"""The base of an adapter that was saved without merged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.model.base_model import BaseModel, find_base_model
from src.training.model.language_model import ADAPTER

_CONFIG = "adapter_config.json"


def find_adapter_base(folder: Path, *, user_folder: Path) -> BaseModel:
    """Finds the base that the adapter in a model's folder was trained on.

    Args:
        folder: as `save_language_model` writes it.
        user_folder: what the base's name is relative to.

    Raises:
        RequestError: it has moved, or is another model by now.
    """
    path = folder / ADAPTER / _CONFIG
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
        recipe, content = _recipe(folder)
        # peft's own record of an embedded base is where it was on the machine that trained.
        name = content.get("source", named)
        revision, pin = recipe.get("model_revision"), recipe.get("model_weights_sha256")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} cannot be read ({error}): the adapter is damaged, train it again") from error
    try:
        base = find_base_model(name, folder=user_folder, revision=revision, weights_sha256=pin)
    except RequestError as error:
        raise RequestError(f"{folder} holds an adapter alone, and its base {name} is not to be had: {error}") from error
    if content.get("sha256") not in (None, base.content["sha256"]):
        raise RequestError(f"{folder} holds an adapter alone, and its base {name} is not the model it was trained on")
    return base


def _recipe(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the recipe of a model and what it says of its base; nothing of a model trained elsewhere."""
    path = folder / "recipe.json"
    if not path.is_file():
        return {}, {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["recipe"], document["inputs"]["model"]
