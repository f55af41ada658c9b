"""Small entries for tests and the benchmark, created without torch."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from src.cache_manager.store.document import digest_of
from src.cache_manager.store.store import Store


def safetensors_bytes(values: bytes) -> bytes:
    """Returns a safetensors file with one tensor of bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return struct.pack("<Q", len(header)) + header + values


def write_model_folder(folder: Path, *, seed: int, size: int = 4096) -> Path:
    """Writes a folder that looks like a model's; returns it.

    Args:
        folder: is made.
        seed: decides the weights. The tokenizer is the same in all folders.
        size: bytes of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["None"], "seed": seed}))
    (folder / "tokenizer.json").write_text("same in all " * 100)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(random.Random(seed).randbytes(size)))
    return folder


def sample_document(seed: int) -> dict[str, Any]:
    """Returns what the key of `commit_sample` is the hash of."""
    return {"schema": 2, "kind": "sample", "seed": seed}


def sample_key(seed: int) -> str:
    """Returns the key of `commit_sample`."""
    return digest_of(sample_document(seed))


def commit_sample(store: Store, folder: Path, *, seed: int, size: int = 4096) -> str:
    """Writes a folder and commits it; returns the key."""
    write_model_folder(folder, seed=seed, size=size)
    files = {path.name: path for path in folder.iterdir()}
    return store.commit(files, document=sample_document(seed), model_name=f"sample-{seed}", revision="r").name


def sample_store(folder: Path, *, seeds: Iterable[int], limit: int | None = None) -> Store:
    """Returns the cache `folder/cache` with samples, last used in the order of `seeds`."""
    store = Store(folder / "cache", limit=limit)
    for seed in seeds:
        commit_sample(store, folder / f"model-{seed}", seed=seed)
        # Their last uses differ by more than a file system's clock tick.
        time.sleep(0.01)
    return store


def many_samples(store: Store, folder: Path, *, count: int) -> None:
    """Commits entries with seeds from 0 to count - 1, of which each has weights of its own and shares the rest."""
    write_model_folder(folder, seed=0, size=64)
    for seed in range(count):
        (folder / "model.safetensors").write_bytes(safetensors_bytes(seed.to_bytes(64)))
        files = {path.name: path for path in folder.iterdir()}
        store.commit(files, document=sample_document(seed), model_name=f"sample-{seed}", revision="r")


def bytes_on_disk(root: Path) -> int:
    """Returns the bytes of a cache's files, hard links counted once, without the list of evictions."""
    sizes = _sizes(root)
    # A walk takes time: while others write, it may count a file that is then replaced, and its replacement.
    while (again := _sizes(root)) != sizes:
        sizes = again
    return sum(sizes.values())


def _sizes(root: Path) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                status = Path(folder, name).lstat()
            except FileNotFoundError:
                continue
            if not name.startswith("evictions"):
                sizes[status.st_ino] = status.st_size
    return sizes
