"""The key of a trained model: a hash over everything that decides its weights, and the document it is the hash of."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from src.cache_manager.keys.code_version import training_code
from src.cache_manager.keys.machine import deciding_machine
from src.cache_manager.store.document import KEY_SCHEMA, digest_of
from src.training.run import resolved_run as resolving
from src.training.run.resolved_run import ResolvedRun

# Libraries whose next version may give other bits, or other rows.
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors", "datasets", "scipy")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and the document it is the hash of."""

    digest: str
    document: dict[str, Any]


def run_key(resolved: ResolvedRun) -> Key:
    """Returns the key of a run: its inputs and settings, the code that trains, the libraries and, for
    `reproducible: machine`, the processor.
    """
    document = {
        "schema": KEY_SCHEMA,
        "kind": "run",
        "run": _run(resolved),
        "code": training_code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "machine": deciding_machine(resolved.recipe.reproducible),
    }
    return Key(digest=digest_of(document), document=document)


def _run(resolved: ResolvedRun) -> dict[str, Any]:
    """Returns what the trainer says decides the weights.

    Its fingerprint is what counts: a setting that enters it enters the key. The fields beside it are for `why-miss`.
    """
    inputs = resolved.document["inputs"]
    return {
        "fingerprint": resolved.fingerprint,
        "settings": {name: getattr(resolved.recipe, name) for name in resolving._DECIDING},
        "threads": resolved.threads,
        "selects_epoch": resolved.task.selects_epoch,
        # Its content alone: the same bits under another name or commit are the same model.
        "model": inputs["model"]["sha256"],
        "data": inputs["data"],
    }
