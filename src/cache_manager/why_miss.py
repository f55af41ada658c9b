"""Why a run is not in the cache: field by field, what differs from the nearest entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from src.cache_manager.keys.key import Key
from src.cache_manager.store.document import differences
from src.cache_manager.store.records import iso_time, records
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import OK, inspect

# Differences of the run itself weigh more than those of the machine or of the code's version.
_WEIGHTS = {"run": 4, "machine": 2, "libraries": 2, "code": 1}
_FINGERPRINT = "run.fingerprint"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a key is, or is not, in the cache.

    Attributes:
        key: of the run.
        hit: whether the cache has it.
        state: of the entry with this key; None if there is no such entry.
        nearest: key of the entry that differs least; None: the cache has no model of a run.
        differences: {"field", "wanted", "cached"} of that entry.
        evicted: {"key", "why", "time"} if the key was evicted.
    """

    key: str
    hit: bool
    state: str | None = None
    nearest: str | None = None
    differences: list[dict[str, Any]] = field(default_factory=list)
    evicted: dict[str, Any] | None = None


def explain(store: Store, key: Key) -> Explanation:
    """Finds out why a key is not in the cache."""
    state = inspect(store.layout, key.digest).state if store.path(key.digest).exists() else None
    if state == OK:
        return Explanation(key=key.digest, hit=True, state=state)
    evicted = store.usage.evictions().get(key.digest)
    if evicted is not None:
        evicted = {**evicted, "time": iso_time(float(str(evicted["time"])))}
    best: tuple[int, str, list[dict[str, Any]]] | None = None
    for record in records(store, checked=False):
        if record.manifest is None or record.manifest.document.get("kind") != "run" or record.key == key.digest:
            continue
        try:
            found = _without_fingerprint(differences(key.document, record.manifest.document))
        except RecursionError:
            # No run has a document that is nested so deeply.
            continue
        weight = sum(_WEIGHTS.get(difference["field"].partition(".")[0], 1) for difference in found)
        if best is None or weight < best[0]:
            best = weight, record.key, found
    if best is None:
        return Explanation(key=key.digest, hit=False, state=state, evicted=evicted)
    return Explanation(key=key.digest, hit=False, state=state, nearest=best[1], differences=best[2], evicted=evicted)


def _without_fingerprint(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leaves the fingerprint out where another field of the run explains it."""
    rest = [difference for difference in found if difference["field"] != _FINGERPRINT]
    return rest if any(difference["field"].startswith("run.") for difference in rest) else found
