"""Training that is done once: a hit loads, a miss trains, commits and then loads."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from src.cache_manager.key import run_key
from src.cache_manager.store import Store
from src.training.request import Request, working_folder
from src.training.resolved import resolve_run
from src.training.runtime import StopSignal
from src.training.train_model import run

log = logging.getLogger("finetune.cache")


def cached_train(request: Request, *, store: Store, stop: StopSignal) -> tuple[Path, bool]:
    """Returns the folder of the model that a request asks for, and whether it was in the cache.

    Processes that ask for the same model wait for the one that trains it.

    Raises:
        RequestError: the request is wrong.
        StopRequested: a signal or the deadline came; the next call goes on from the checkpoint.
    """
    resolved = resolve_run(request.recipe, folder=working_folder())
    key = run_key(resolved)
    if (hit := store.lookup(key.digest)) is not None:
        return hit, True
    with store.lock(key.digest):
        if (hit := store.lookup(key.digest)) is not None:
            return hit, True
        workspace = store.workspace(key.digest)
        options = dataclasses.replace(request.options, output_dir=workspace)
        run(dataclasses.replace(request, options=options), stop=stop, resolved=resolved)
        committed = store.commit(
            workspace,
            key=key.digest,
            key_document=key.document,
            model_name=request.recipe.model_name_or_path,
        )
        return committed, False
