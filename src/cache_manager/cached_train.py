"""Training that is done once: a miss trains and commits, a hit returns the entry."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from src.cache_manager.store.store import Store
from src.cache_manager.store.training_folder import claimed_training_folder, remove_training_folder
from src.cache_manager.store.verify import files_in
from src.cli.errors import RequestError
from src.cli.formats import show_size
from src.cli.working_folder import working_folder
from src.training.environment.determinism import prepare_environment
from src.training.environment.stop_signal import StopSignal
from src.training.run.artifact import RECIPE_FILE, is_artifact
from src.training.run.request import Request
from src.training.train_model import run

if TYPE_CHECKING:
    from src.training.run.resolved_run import ResolvedRun

_WEIGHTS = ("*.safetensors", "*.bin")

log = logging.getLogger("finetune.cache")


def cached_train(request: Request, *, store: Store, stop: StopSignal) -> tuple[Path, bool]:
    """Returns the folder of the model that a request asks for, and whether it was in the cache.

    Processes that ask for the same model wait for the one that trains it. The entry counts as in use until this
    process ends.

    Raises:
        RequestError: the request is wrong.
        CacheError: the disk is full.
        StopRequested: a signal or the deadline came; the next call resumes from the checkpoint.
    """
    # numpy and torch, which read the environment once, are loaded by what is imported here.
    prepare_environment(request.recipe.reproducible)
    from src.cache_manager.keys.key import run_key
    from src.training.run.resolved_run import resolve_run

    resolved = resolve_run(request.recipe, folder=working_folder())
    key = run_key(resolved)
    # Before the lookup: an eviction checks for leases again after its rename.
    store.usage.hold(key.digest)
    if (hit := store.lookup(key.digest)) is not None:
        return hit, True
    _check_room(store, resolved)
    with _training_lock(store, key.digest, stop=stop):
        if (hit := store.lookup(key.digest)) is not None:
            return hit, True
        with claimed_training_folder(store.layout, key.digest) as training_folder:
            if not _is_finished(training_folder, resolved):
                options = dataclasses.replace(request.options, output_dir=training_folder)
                run(dataclasses.replace(request, options=options), stop=stop, resolved=resolved)
            model = resolved.document["inputs"]["model"]
            committed = store.commit(
                {name: training_folder / name for name, _ in files_in(training_folder)},
                document=key.document,
                model_name=request.recipe.model_name_or_path,
                revision=model.get("commit") or model["sha256"],
            )
            remove_training_folder(training_folder)
    return committed, False


def _check_room(store: Store, resolved: ResolvedRun) -> None:
    """Refuses a training whose model cannot fit: it is at least as large as the base weights."""
    if store.budget.limit is None:
        return
    folder = resolved.base.folder
    weights = sum(path.stat().st_size for pattern in _WEIGHTS for path in folder.glob(pattern))
    if weights > store.budget.limit:
        raise RequestError(
            f"the cache may hold {show_size(store.budget.limit)}, and the weights alone take {show_size(weights)}: "
            "raise FINETUNE_CACHE_MAX_SIZE"
        )


def _is_finished(training_folder: Path, resolved: ResolvedRun) -> bool:
    """Whether a training finished here and was killed before its commit."""
    if not is_artifact(training_folder):
        return False
    recipe = json.loads((training_folder / RECIPE_FILE).read_text(encoding="utf-8"))
    return bool(recipe.get("fingerprint") == resolved.fingerprint)


@contextmanager
def _training_lock(store: Store, key: str, *, stop: StopSignal) -> Iterator[None]:
    """Waits until no other process trains the model; proceeds without a lock where the file system has none."""
    lock = store.lock(key)
    announced = False
    while True:
        stop.check()
        try:
            lock.acquire(timeout=1.0, poll_interval=0.05)
            break
        except Timeout:
            if not announced:
                log.info("Another process trains this model: waiting for it")
            announced = True
        except (OSError, NotImplementedError) as error:
            log.warning("cache: cannot lock (%s): another process may do the same work", error)
            break
    try:
        yield
    finally:
        lock.release()
