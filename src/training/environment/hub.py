"""Whether the hub answers, and whether its cache has what the default recipe needs."""

from __future__ import annotations

import functools
import http.client
import logging
import os
import urllib.error
import urllib.request
from typing import Any

_ANSWER_SECONDS = 3.0

log = logging.getLogger("finetune")


def hub_has(recipe: dict[str, Any]) -> bool:
    """Whether the hub answers, or its cache holds the recipe's model and dataset at their commits.

    Args:
        recipe: raw fields of a recipe whose model and dataset are on the hub, pinned to commits.
    """
    return go_offline_unless_reachable() or _is_cached(recipe)


@functools.cache
def go_offline_unless_reachable() -> bool:
    """Returns whether the hub is reachable; if not, puts its libraries offline: they would retry for half a minute.

    To be called before anything is loaded from the hub or its cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    if not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT):
        return True
    # `datasets` reads the variable when it is imported, huggingface_hub has read it already.
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    return False


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=_ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        # It answered, if only with an error for this page.
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _is_cached(recipe: dict[str, Any]) -> bool:
    from huggingface_hub import try_to_load_from_cache

    weights = "pytorch_model.bin" if recipe.get("model_weights_sha256") else "model.safetensors"
    for file in ("config.json", weights):
        cached = try_to_load_from_cache(recipe["model_name_or_path"], file, revision=recipe["model_revision"])
        if not isinstance(cached, str):
            return False
    return _dataset_is_cached(recipe)


def _dataset_is_cached(recipe: dict[str, Any]) -> bool:
    import datasets

    # Its warnings go to standard error.
    datasets.utils.logging.set_verbosity_error()
    try:
        # With no network this opens what was prepared before, or fails.
        datasets.load_dataset(
            recipe["dataset_name"],
            recipe.get("dataset_config_name"),
            revision=recipe.get("dataset_revision"),
            download_config=datasets.DownloadConfig(local_files_only=True),
        )
    except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        log.debug("the dataset is not cached: %s", error)
        return False
    return True
