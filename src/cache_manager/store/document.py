"""Key documents: JSON whose sha256 is a key, for a run, an import or a name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

KEY_SCHEMA = 2
IMPORT = "import"


def digest_of(document: Any) -> str:
    """Returns the sha256 of a document in canonical JSON: sorted keys, no whitespace."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _fields(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the path and value of every field that is not an object: `run.settings.seed`."""
    if isinstance(document, dict) and document:
        for name in sorted(document):
            yield from _fields(document[name], f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, document


def differences(wanted: Any, other: Any) -> list[dict[str, Any]]:
    """Returns each field that differs as {"field", "wanted", "cached"}; None stands for an absent field."""
    left, right = dict(_fields(wanted)), dict(_fields(other))
    return [
        {"field": name, "wanted": left.get(name), "cached": right.get(name)}
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def named_key(model_name: str, revision: str) -> str:
    """Returns the key of a model by name and revision.

    The parts are quoted before they are joined: ("org/m_v1", "main") and ("org/m", "v1_main") differ.
    """
    return digest_of([model_name, revision])


def import_document(hashes: dict[str, str]) -> dict[str, Any]:
    """Returns the document of an import, of which only the content is known: sha256 by file name."""
    return {"schema": KEY_SCHEMA, "kind": IMPORT, "files": hashes}
