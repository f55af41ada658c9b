"""Checks that a model from an executor is the one that this checkout would have trained.

Whether the executor was honest cannot be checked without training again: docs/remote.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.disk.durable import canonical_json
from src.training.engine.checkpoint_seal import STATE_FILE
from src.training.model.language_model import ADAPTER, load_merged, load_with_adapter
from src.training.model.lora import has_adapter_alone
from src.training.model.pretrained import load_model, load_tokenizer
from src.training.recipes.recipe import FIELDS, TEXT_GENERATION, Recipe, parse_fields
from src.training.report.page import OPENING
from src.training.run.artifact import EVENTS_FILE, METRICS_FILE, RECIPE_FILE, is_artifact
from src.training.run.kinds import kind_of
from src.training.run.resolved_run import ResolvedRun, resolve_run

# Written by run_training.sh: the sha256 of each source file of the training, in the format of sha256sum.
CODE_FILE = "training_code.sha256"
COMPLETE, STOPPED = "complete", ("interrupted", "stopped_at_deadline")


# What says how the run went. All else in a model's folder follows from the recipe, but for the numbers in the weights.
_REPORT = "report.html"
_RECORDS = (RECIPE_FILE, METRICS_FILE, EVENTS_FILE, _REPORT, "README.md")
_MAX_COUNT = 10**15


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
    """Resolves the run of a recipe.json on this machine and compares what it says of the inputs.

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
    # If the recipe does not set the thread count, the executor's counts: it decides the bits.
    threads, more = parse_fields({"threads": received.get("threads")})
    if mistakes or more:
        raise RequestError(f"the recipe.json in the outputs is wrong: {'; '.join([*mistakes, *more])}")
    recipe = Recipe(**{**threads, **values})
    try:
        resolved = resolve_run(recipe, folder=root)
    except RequestError:
        raise
    except Exception as error:
        # Only a request's own checks come before it elsewhere.
        raise RequestError(
            f"the inputs that the recipe.json in the outputs names cannot be read ({type(error).__name__}: {error})"
        ) from error
    if resolved.fingerprint != received.get("fingerprint"):
        raise RequestError(
            "the run had other inputs (base model, data or settings) than this checkout: run the test again"
        )
    recorded = {**resolved.document, "recipe": {**resolved.document["recipe"], "threads": values.get("threads")}}
    if (folder / RECIPE_FILE).read_text(encoding="utf-8") != canonical_json(recorded):
        raise RequestError("the recipe.json in the outputs is not what this checkout writes: run the test again")
    return resolved


def check_metrics(folder: Path, resolved: ResolvedRun, *, versions: Mapping[str, str]) -> str:
    """Checks that the run was finished, with the library versions of this checkout; returns its main score.

    That is a classification's accuracy, the F1 of many labels, a regression's MAE or a language model's loss.

    Raises:
        RequestError: it was not, or metrics.json does not hold what a run writes.
    """
    if not is_artifact(folder):
        raise RequestError(f"{folder.name} is not a complete model: run the test again")
    metrics = read_json(folder / METRICS_FILE)
    if (status := metrics.get("status")) != COMPLETE:
        raise RequestError(f"the run is not finished (status {str(status)[:40]})")
    used = _object(_object(metrics, "environment"), "versions")
    for name, version in versions.items():
        if name in used and str(used[name]).partition("+")[0] != version.partition("+")[0]:
            raise RequestError(
                f"the executor trained with {name} {str(used[name])[:40]}, this checkout has {version}: "
                "rebuild its image"
            )
    after = _object(metrics, "after")
    of_labels = next((name for name in ("accuracy", "f1_micro") if name in after), "mae")
    name = "loss" if resolved.recipe.task == TEXT_GENERATION else of_labels
    return f"{name} {_number(after, name):.4f}"


def check_stopped(folder: Path) -> str:
    """Returns where a run stopped, as text.

    Raises:
        RequestError: metrics.json does not say so.
    """
    metrics = read_json(folder / METRICS_FILE)
    if (status := metrics.get("status")) not in STOPPED:
        raise RequestError(f"the run was not stopped (status {str(status)[:40]}): run the test again")
    train = _object(metrics, "train")
    return f"({status}) after {_number(train, 'steps'):.0f} steps, {_number(train, 'epochs'):.2f} epochs"


def _object(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(value := record.get(name), dict):
        raise RequestError(f"{METRICS_FILE} in the outputs has no {name}, which every run writes: run the test again")
    return value


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    # NaN is not in any range.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_COUNT:
        raise RequestError(f"{METRICS_FILE} in the outputs has no {name}, which every run writes: run the test again")
    return value


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
    except (OSError, ValueError) as error:
        raise RequestError(f"the outputs do not record which code trained the model ({error})") from error
    trained = {name.strip().removeprefix("./"): digest for digest, _, name in (line.partition("  ") for line in lines)}
    different = sorted(name for name, digest in code.items() if trained.get(name) != digest)
    if different:
        raise RequestError(
            f"the run used other code than this checkout ({', '.join(different[:4])}): run the test again"
        )


def check_checkpoints(folder: Path, *, fingerprint: str) -> None:
    """Checks that a run of this fingerprint can resume from the newest checkpoint.

    Raises:
        RequestError: there is none, or it is damaged or of another run.
    """
    from src.training.engine.checkpoints import Checkpoints

    for path in folder.glob("checkpoint-*"):
        sealed = read_json(path / STATE_FILE).get("files")
        if not isinstance(sealed, dict) or sealed.keys() != {file.name for file in path.iterdir()} - {STATE_FILE}:
            raise RequestError(f"{path.name} in the outputs is damaged: run the test again")
    try:
        latest = Checkpoints(folder, fingerprint=fingerprint).latest()
    except (RequestError, KeyError, TypeError, ValueError) as error:
        raise RequestError("the checkpoint in the outputs is damaged: run the test again") from error
    if latest is None:
        raise RequestError("the outputs hold no checkpoint: run the test again")


def check_model(folder: Path, resolved: ResolvedRun) -> None:
    """Compares a model with one that this checkout writes untrained, and gives it a sentence to read.

    A report with any text must still forbid scripts: people open it.

    Config and tokenizer have to have the same bytes, the weights the same names, shapes and types. Only then they are
    read: what libraries do with files that somebody made up is their affair.

    Raises:
        RequestError: it is another model, does not load, or its logits are not finite.
    """
    import torch

    report = folder / _REPORT
    if report.exists() and not report.read_bytes().startswith(OPENING.encode()):
        raise RequestError(
            f"the model's {_REPORT} does not forbid scripts, as this checkout's does: run the test again"
        )
    with tempfile.TemporaryDirectory() as name:
        untrained = Path(name)
        kind_of(resolved).write_untrained(untrained)
        expected, received = _files(untrained), _files(folder)
        for name in sorted(expected.keys() | received.keys()):
            if name not in expected or name not in received or not _alike(expected[name], received[name]):
                raise RequestError(
                    f"the model's {name} is not what this checkout writes for its recipe: run the test again"
                )
    inputs = load_tokenizer(folder)("A sentence.", return_tensors="pt")
    for load in _loaders(folder, resolved):
        with torch.inference_mode():
            logits = load().eval()(**inputs).logits
        if not bool(torch.isfinite(logits).all()):
            raise RequestError("the model's logits are not finite: it is not collected")


def _files(folder: Path) -> dict[str, Path]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if name not in _RECORDS}


def _loaders(folder: Path, resolved: ResolvedRun) -> Iterator[Callable[[], Any]]:
    if resolved.recipe.task != TEXT_GENERATION:
        yield lambda: load_model(folder)
        return
    if not has_adapter_alone(folder):
        yield lambda: load_merged(folder)
    if (folder / ADAPTER).is_dir():
        yield lambda: load_with_adapter(resolved.base, folder)


def _alike(expected: Path, received: Path) -> bool:
    """Whether two files have the same bytes; of safetensors, the same size and header."""
    if expected.stat().st_size != received.stat().st_size:
        return False
    with expected.open("rb") as left, received.open("rb") as right:
        size = expected.stat().st_size
        if expected.suffix == ".safetensors":
            # The header's length, and the header: names, types, shapes and places of all tensors.
            size = 8 + int.from_bytes(left.peek(8)[:8], "little")
        return left.read(size) == right.read(size)
