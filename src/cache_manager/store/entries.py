"""A cache's entries by key, and what is kept beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from src.cache_manager.store.blobs import Blobs
from src.cache_manager.store.budget import Budget, configured_limit
from src.cache_manager.store.layout import Layout, is_key
from src.cache_manager.store.usage import Usage
from src.cli.errors import RequestError


class Entries:
    """The entries of a cache. `Store` adds commits and lookups."""

    def __init__(self, root: Path, *, limit: int | None = None) -> None:
        """Takes the root, which is created by the first write.

        Args:
            root: of the cache.
            limit: maximum bytes; by default $FINETUNE_CACHE_MAX_SIZE.
        """
        self.layout = Layout(root)
        self.usage = Usage(self.layout)
        self.blobs = Blobs(self.layout)
        self.budget = Budget(self.layout, limit=configured_limit() if limit is None else limit)

    def path(self, key: str) -> Path:
        """Returns where the entry of a key is or would be."""
        return self.layout.entry(key)

    def keys(self) -> Iterator[str]:
        """Yields the names of all entries, foreign ones too, in no order."""
        try:
            yield from (path.name for path in self.layout.entries.iterdir())
        except FileNotFoundError:
            return

    def resolve(self, prefix: str) -> str:
        """Returns the key that begins with a prefix.

        Raises:
            RequestError: no key does, or several do.
        """
        if is_key(prefix) and self.path(prefix).exists():
            return prefix
        keys = sorted(key for key in self.keys() if prefix and key.startswith(prefix.lower()))
        if not keys:
            raise RequestError(f"no entry's key begins with {prefix!r}: `ls` shows them all")
        if len(keys) > 1:
            some = ", ".join(key[:16] for key in keys[:4])
            raise RequestError(f"{len(keys)} keys begin with {prefix!r} ({some}): give more digits")
        return keys[0]
