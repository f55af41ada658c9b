"""What the fault test kills: a process that does random operations on a cache until it is killed."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from src.cache_manager.sharing.shared_cache import SharedCache
from src.cache_manager.sharing.transfer import import_folder
from src.cache_manager.store.evict import execute, plan
from src.cache_manager.store.repair import repair
from src.cache_manager.store.store import CacheError, Store
from src.cache_manager.store.sweep import sweep
from src.cache_manager.store.usage import Usage
from src.cache_manager.testing.sample_entries import commit_sample, sample_key
from src.cli.errors import RequestError
from src.disk.durable import append_line

# Operations and their relative frequencies.
OPERATIONS = {"commit": 5, "import": 3, "pull": 3, "gc": 3, "lookup": 2, "repair": 1}
SEEDS = 40
SIZE = 60_000


@dataclass(frozen=True)
class Place:
    """Where the test happens.

    Attributes:
        root: of the cache.
        scratch: folders of models to commit, and what is to be imported.
        url: the shared cache to pull from.
        limit: most bytes the cache may hold; None: no limit.
    """

    root: Path
    scratch: Path
    url: str
    limit: int | None = None

    @property
    def done(self) -> Path:
        """One line for each operation that ended: process, operation, key, when it was begun and when it ended."""
        return self.scratch / "done"

    @property
    def begun(self) -> Path:
        """One line for each operation that was begun, so that the test knows what was interrupted."""
        return self.scratch / "begun"

    def note_end(self, process: int | None, operation: str, key: str, *, begun: float) -> None:
        """Writes a line of `done`."""
        append_line(self.done, f"{process} {operation} {key} {begun} {time.time()}")


class SignedUsage(Usage):
    """Notes with each eviction which process evicts."""

    def note_eviction(self, key: str, *, why: str) -> None:
        """Appends the process to the reason."""
        super().note_eviction(key, why=f"{why}, by process {os.getpid()}")


def work(place: Place, number: int, seed: int) -> None:
    """Works until it is killed.

    Args:
        place: the cache.
        number: of this process among those that run at the same time.
        seed: decides what is done.
    """
    choose = random.Random(seed)
    store = Store(place.root, limit=place.limit)
    store.usage = SignedUsage(store.layout)
    while True:
        operation = choose.choices(list(OPERATIONS), weights=list(OPERATIONS.values()))[0]
        begun = time.time()
        append_line(place.begun, f"{os.getpid()} {operation}")
        try:
            key = do(place, store, operation, choose=choose, scratch=place.scratch / f"worker-{number}")
        except (RequestError, CacheError, FileNotFoundError) as error:
            # No room, or evicted by another process between two steps: a user gets the same error.
            place.note_end(os.getpid(), "refused", type(error).__name__, begun=begun)
            continue
        place.note_end(os.getpid(), operation, key, begun=begun)


def do(place: Place, store: Store, operation: str, *, choose: random.Random, scratch: Path) -> str:
    """Does one operation; returns the key of the entry that it made or found, or `-`."""
    seed = choose.randrange(SEEDS)
    if operation == "commit":
        return commit_sample(store, scratch / str(seed), seed=seed, size=SIZE)
    if operation == "import":
        return import_folder(store, place.scratch / "imports" / str(seed % 8)).entry.name
    if operation == "pull":
        shared = SharedCache(place.url)
        return shared.pull(store, choose.choice(shared.keys())).key
    if operation == "gc":
        sweep(store)
        execute(store, plan(store, max_size=choose.randrange(10, 30) * SIZE, max_age=None))
        store.blobs.sweep()
    elif operation == "lookup":
        store.lookup(sample_key(seed))
    else:
        repair(store, [])
    return "-"
