"""The key of a trained model: the hash of a document that holds everything that decides its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from src.cache_manager.keys.code_version import training_code
from src.cache_manager.keys.machine import deciding_machine
from src.cache_manager.store.document import KEY_SCHEMA, digest_of
from src.training.recipes.recipe import Recipe
from src.training.run.resolved_run import ResolvedRun

# Libraries whose next version may give other bits, or other rows.
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors", "datasets", "scipy")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and the document it is the hash of."""

    digest: str
    document: dict[str, Any]


def run_key(resolved: ResolvedRun) -> Key:
    """Returns the key of a run: its settings and inputs, the code that trains, the libraries and the machine."""
    machine = deciding_machine(resolved.recipe.reproducible)
    document = {
        "schema": KEY_SCHEMA,
        "kind": "run",
        # The fingerprint alone would do; the fields beside it are for `why-miss`.
        "run": {"fingerprint": resolved.fingerprint, **resolved.deciding},
        "code": training_code(),
        "libraries": _libraries(resolved.recipe, machine),
        "machine": machine,
    }
    # As manifests hold it, for `why-miss`: lists in place of tuples.
    return Key(digest=digest_of(document), document=json.loads(json.dumps(document)))


def _libraries(recipe: Recipe, machine: Mapping[str, Any]) -> dict[str, str]:
    """Returns the versions of the libraries that decide bits.

    Without a GPU, the CPU wheel of torch (2.13.0+cpu) and PyPI's CUDA build (2.13.0) gave the same bits in `portable`
    on x86-64 (docs/bits.md), so there they share keys. Elsewhere this was not tried.
    """
    versions = {name: version(name) for name in (*_LIBRARIES, *(("peft",) if recipe.use_peft else ()))}
    if recipe.reproducible == "portable" and machine["architecture"] == "x86_64" and not machine["accelerators"]:
        versions["torch"] = versions["torch"].removesuffix("+cpu")
    return versions
