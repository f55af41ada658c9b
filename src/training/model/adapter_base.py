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
        name = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
        recipe = _recipe(folder)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RequestError(f"{path} cannot be read ({error}): the adapter is damaged, train it again") from error
    try:
        base = find_base_model(name, folder=user_folder, revision=recipe.get("revision"), weights_sha256=recipe["pin"])
    except RequestError as error:
        raise RequestError(f"{folder} holds an adapter alone, and its base {name} is not to be had: {error}") from error
    if recipe["sha256"] not in (None, base.content["sha256"]):
        raise RequestError(
            f"{folder} holds an adapter alone, and its base {name} is not the model that it was trained on"
        )
    return base


def _recipe(folder: Path) -> dict[str, Any]:
    """Returns what recipe.json says of the base; nothing where there is none."""
    path = folder / "recipe.json"
    document = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"recipe": {}, "inputs": {"model": {}}}
    )
    recipe = document["recipe"]
    return {
        "revision": recipe.get("model_revision"),
        "pin": recipe.get("model_weights_sha256"),
        "sha256": document["inputs"]["model"].get("sha256"),
    }
