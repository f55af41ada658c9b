"""The key of a trained model: a hash over everything that decides its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import src.training.resolved
from src.training.resolved import ResolvedRun

KEY_SCHEMA = 1
# Libraries whose next version may give other bits.
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and the document it is the hash of."""

    digest: str
    document: dict[str, Any]


def named_key(model_name: str, revision: str) -> str:
    """Returns the key of a model by name and revision.

    The parts are quoted before they are joined: ("org/m_v1", "main") and ("org/m", "v1_main") differ.
    """
    return _sha256([model_name, revision])


def run_key(resolved: ResolvedRun) -> Key:
    """Returns the key of a run: its inputs and settings, the code that trains, and the libraries."""
    document = {
        "schema": KEY_SCHEMA,
        "run": resolved.fingerprint,
        "code": _code_sha256(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    return Key(digest=_sha256(document), document=document)


def _code_sha256() -> str:
    """Hash over the source of the training package, tests aside."""
    folder = Path(src.training.resolved.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if not path.name.endswith("_test.py"):
            digest.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sha256(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
