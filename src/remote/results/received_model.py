"""Checks that a model from an executor is the one that this checkout would have trained.

Whether the executor was honest cannot be checked without training again: docs/remote.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.model.language_model import ADAPTER, has_adapter_alone, load_merged, load_with_adapter
from src.training.model.pretrained import load_model, load_tokenizer
from src.training.recipes.recipe import FIELDS, TEXT_GENERATION, Recipe, parse_fields
from src.training.run.artifact import METRICS_FILE, RECIPE_FILE, is_artifact
from src.training.run.resolved_run import ResolvedRun, resolve_run

# Written by run_training.sh: the sha256 of each source file of the training, in the format of sha256sum.
CODE_FILE = "training_code.sha256"
COMPLETE = "complete"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RequestError: the file is missing or holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"the outputs have no readable {path.name} ({error})") from error
    if not isinstance(content, dict):
        raise RequestError(f"the outputs have no readable {path.name}: it is not a JSON object")
    return content


def resolve_received(folder: Path, *, root: Path) -> ResolvedRun:
    """Resolves the run of a recipe.json on this machine and compares its inputs.

    Args:
        folder: holds the recipe.json.
        root: base of relative paths in it.

    Raises:
        RequestError: recipe.json is malformed, or the inputs differ.
    """
    received = read_json(folder / RECIPE_FILE)
    raw = received.get("recipe")
    if not isinstance(raw, dict) or set(raw) - set(FIELDS):
        raise RequestError("the recipe.json in the outputs is of another version: train again with this checkout")
    values, mistakes = parse_fields({name: value for name, value in raw.items() if value is not None})
    if mistakes:
        raise RequestError(f"the recipe.json in the outputs is wrong: {'; '.join(mistakes)}")
    recipe = Recipe(**values)
    # If the recipe does not set the thread count, the executor's counts: it decides the bits.
    threads = received.get("threads")
    resolved = resolve_run(dataclasses.replace(recipe, threads=recipe.threads or threads), folder=root)
    if resolved.fingerprint != received.get("fingerprint"):
        raise RequestError(
            "the run had other inputs (base model, data or settings) than this checkout: run the test again"
        )
    return resolved


def check_metrics(folder: Path, *, versions: Mapping[str, str]) -> None:
    """Checks that the run was finished, with the library versions of this checkout.

    Raises:
        RequestError: it was not.
    """
    if not is_artifact(folder):
        raise RequestError(f"{folder.name} is not a complete model: run the test again")
    metrics = read_json(folder / METRICS_FILE)
    if (status := metrics.get("status")) != COMPLETE:
        raise RequestError(f"the run is not finished (status {status})")
    used = metrics.get("environment", {}).get("versions", {})
    for name, version in versions.items():
        if name in used and used[name].partition("+")[0] != version.partition("+")[0]:
            raise RequestError(
                f"the executor trained with {name} {used[name]}, this checkout has {version}: rebuild its image"
            )


def check_code(outputs: Path, *, code: Mapping[str, str]) -> None:
    """Compares the sources of the training with those of this checkout.

    Args:
        outputs: of the test.
        code: sha256 by file name below src/.

    Raises:
        RequestError: they differ or are unknown.
    """
    try:
        lines = (outputs / CODE_FILE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RequestError(f"the outputs do not record which code trained the model ({error.strerror})") from error
    trained = {name.strip().removeprefix("./"): digest for digest, _, name in (line.partition("  ") for line in lines)}
    different = sorted(name for name, digest in code.items() if trained.get(name) != digest)
    if different:
        raise RequestError(
            f"the run used other code than this checkout ({', '.join(different[:4])}): run the test again"
        )


def check_loads(folder: Path, *, resolved: ResolvedRun) -> None:
    """Loads the model as a user would and gives it a sentence; a language model's adapter too, on its base.

    Raises:
        RequestError: it does not load, or its logits are not finite.
    """
    import torch

    try:
        inputs = load_tokenizer(folder)("A sentence.", return_tensors="pt")
        for load in _loaders(folder, resolved=resolved):
            with torch.inference_mode():
                logits = load().eval()(**inputs).logits
            if not bool(torch.isfinite(logits).all()):
                raise RequestError("its logits are not finite")
    except (RequestError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise RequestError(f"the model does not load: {error}") from error


def _loaders(folder: Path, *, resolved: ResolvedRun) -> Iterator[Callable[[], Any]]:
    if resolved.recipe.task != TEXT_GENERATION:
        yield lambda: load_model(folder)
        return
    if not has_adapter_alone(folder):
        yield lambda: load_merged(folder)
    if (folder / ADAPTER).is_dir():
        yield lambda: load_with_adapter(resolved.base, folder)
