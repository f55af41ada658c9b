"""What disks and people do to files, for the fault test: bits flip, files are cut short, emptied and removed."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from src.cache_manager.store.manifest import MANIFEST
from src.cache_manager.store.store import Store


def damage(store: Store, *, choose: random.Random) -> Counter[str]:
    """Damages a few files; returns what was done. Entries with odd keys are spared."""
    done: Counter[str] = Counter()
    harmed = [key for key in sorted(store.keys()) if int(key[-1], 16) % 2 == 0]
    for kind in ("flip", "truncate", "empty", "remove"):
        if not harmed:
            break
        folder = store.path(choose.choice(harmed))
        names = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        path = folder / MANIFEST if kind == "empty" else choose.choice(names)
        if not path.exists():
            continue
        _harm(path, kind, choose=choose)
        done[kind] += 1
    blobs = sorted(store.blobs.all())
    if blobs and (blob := choose.choice(blobs)).stat().st_nlink == 1:
        _harm(blob, "truncate", choose=choose)
        done["truncate blob"] += 1
    return done


def _harm(path: Path, kind: str, *, choose: random.Random) -> None:
    if kind == "remove":
        path.unlink()
        return
    # No other entry has these weights: they are harmed under all their names. Other files are shared with entries
    # that are to be spared: a copy is harmed.
    target = path if path.name == "model.safetensors" else path.with_name(f".{path.name}.harmed")
    if target != path:
        shutil.copy(path, target)
    target.chmod(0o644)
    with target.open("r+b") as file:
        size = path.stat().st_size
        at = choose.randrange(max(1, size))
        if kind == "flip" and size:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ (1 << choose.randrange(8))]))
        else:
            file.truncate(0 if kind == "empty" else at)
    target.replace(path)
