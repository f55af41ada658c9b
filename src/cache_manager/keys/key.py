"""The key of a trained model: the hash of a document that holds everything that decides its weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from src.cache_manager.keys.code_version import training_code
from src.cache_manager.keys.machine import deciding_machine
from src.cache_manager.store.document import KEY_SCHEMA, digest_of
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
    document = {
        "schema": KEY_SCHEMA,
        "kind": "run",
        # The fingerprint alone would do; the fields beside it are for `why-miss`.
        "run": {"fingerprint": resolved.fingerprint, **resolved.deciding},
        "code": training_code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "machine": deciding_machine(resolved.recipe.reproducible),
    }
    return Key(digest=digest_of(document), document=document)
