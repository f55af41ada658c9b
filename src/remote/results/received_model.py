"""Whether a model that came back from an executor is what this checkout would have trained, as far as can be told.

What cannot be told without training again is whether the executor was honest: docs/remote.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.recipes.recipe import FIELDS, Recipe, parse_fields
from src.training.run.artifact import METRICS_FILE, RECIPE_FILE, is_artifact
from src.training.run.resolved_run import ResolvedRun, resolve_run

# run_training.sh writes it: the sha256 of each source file that trained, as sha256sum does.
CODE_FILE = "training_code.sha256"
COMPLETE = "complete"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON document.

    Raises:
        RequestError: it is not there or is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"what came back has no readable {path.name} ({error})") from error
    if not isinstance(document, dict):
        raise RequestError(f"what came back has no readable {path.name}: it holds no object")
    return document


def resolve_received(folder: Path, *, root: Path) -> ResolvedRun:
    """Finds the inputs of the run that a recipe.json tells of, on this machine, and compares them.

    Args:
        folder: with the recipe.json.
        root: what paths in it are relative to.

    Raises:
        RequestError: recipe.json is none, or the inputs here are others.
    """
    received = read_json(folder / RECIPE_FILE)
    raw = received.get("recipe")
    if not isinstance(raw, dict) or set(raw) - set(FIELDS):
        raise RequestError("the recipe.json that came back is of another version: train again with this checkout")
    values, mistakes = parse_fields({name: value for name, value in raw.items() if value is not None})
    if mistakes:
        raise RequestError(f"the recipe.json that came back is wrong: {'; '.join(mistakes)}")
    recipe = Recipe(**values)
    # A thread count that the recipe leaves open is the executor's; it decides the bits.
    threads = received.get("threads")
    resolved = resolve_run(dataclasses.replace(recipe, threads=recipe.threads or threads), folder=root)
    if resolved.fingerprint != received.get("fingerprint"):
        raise RequestError(
            "what came back is of other inputs (base model, data or settings) than this checkout has: test again"
        )
    return resolved


def check_metrics(folder: Path, *, versions: Mapping[str, str]) -> None:
    """Checks that the run was finished, and by the libraries that are locked here.

    Raises:
        RequestError: it was not.
    """
    if not is_artifact(folder):
        raise RequestError(f"{folder.name} is no whole model: run the test again")
    metrics = read_json(folder / METRICS_FILE)
    if (status := metrics.get("status")) != COMPLETE:
        raise RequestError(f"the run is not finished (status {status})")
    theirs = metrics.get("environment", {}).get("versions", {})
    for name, version in versions.items():
        if name in theirs and theirs[name].partition("+")[0] != version.partition("+")[0]:
            raise RequestError(f"the executor trained with {name} {theirs[name]}, here is {version}: rebuild its image")


def check_code(outputs: Path, *, code: Mapping[str, str]) -> None:
    """Compares the sources that trained with those of this checkout.

    Args:
        outputs: of the test.
        code: sha256 by file name below src/.

    Raises:
        RequestError: they are others, or unknown.
    """
    try:
        lines = (outputs / CODE_FILE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RequestError(f"what came back does not tell which code trained it ({error.strerror})") from error
    theirs = {name.strip().removeprefix("./"): digest for digest, _, name in (line.partition("  ") for line in lines)}
    different = sorted(name for name, digest in code.items() if theirs.get(name) != digest)
    if different:
        raise RequestError(
            f"what came back is of other code than this checkout's ({', '.join(different[:4])}): run the test again"
        )


def check_loads(folder: Path) -> None:
    """Loads the model as a user would, and asks it something.

    Raises:
        RequestError: it does not load, or its answer is no number.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)
        encoded = AutoTokenizer.from_pretrained(folder)("A sentence.", return_tensors="pt")
        with torch.inference_mode():
            logits = model.eval()(**encoded).logits
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise RequestError(f"the model that came back does not load: {error}") from error
    if not bool(torch.isfinite(logits).all()):
        raise RequestError("the model that came back answers with no numbers: it is not taken")
