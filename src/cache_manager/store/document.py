"""Canonical documents: what a key is the sha256 of, for a run, an import, or a name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

KEY_SCHEMA = 2


def digest_of(document: Any) -> str:
    """Returns the sha256 of a document in canonical JSON: sorted keys, no space that could vary."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fields_of(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every field that holds a plain value, by its path: `run.settings.seed`."""
    if isinstance(document, dict) and document:
        for name in sorted(document):
            yield from fields_of(document[name], f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, document


def differences(wanted: Any, other: Any) -> list[dict[str, Any]]:
    """Returns field by field what differs, as {"field", "wanted", "cached"}; None stands for a field that is absent."""
    left, right = dict(fields_of(wanted)), dict(fields_of(other))
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
    """Returns the document of a model of other making: what is known of it is its content, as sha256 by file name."""
    return {"schema": KEY_SCHEMA, "kind": "import", "files": hashes}
