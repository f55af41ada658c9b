"""The tutorial's two demonstrations, timed: a model from the hub and one that is trained here, cold and warm."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.cache_manager.cached_train import cached_train
from src.cache_manager.hub import cached_snapshot
from src.cache_manager.loading import load_model, load_tokenizer
from src.cache_manager.store.store import Store
from src.cli.errors import RequestError
from src.training.environment.stop_signal import StopSignal
from src.training.model import pretrained
from src.training.model.base_model import find_base_model
from src.training.recipes.files import read_recipe
from src.training.run.console import section
from src.training.run.request import Request

# Names a model of the hub, and the hash of its pickle.
_HUB_RECIPE = "sst2_bert_tiny"

log = logging.getLogger("finetune")


def demo(request: Request, *, store: Store, stop: StopSignal) -> dict[str, Any]:
    """Shows both on standard output; returns their figures, times in seconds.

    Raises:
        RuntimeError: the cache gave back another model than was trained.
    """
    return {"hub": _demo_hub(), "own": _demo_own(request, store=store, stop=stop)}


def _demo_hub() -> dict[str, Any]:
    section("A HUGGING FACE MODEL")
    recipe = read_recipe(_HUB_RECIPE, folder=Path())
    name, revision = recipe["model_name_or_path"], recipe["model_revision"]
    hit = cached_snapshot(name, revision) is not None
    figures: dict[str, Any] = {"model_name": name, "hit": hit, "download_seconds": None}
    log.info("Is %s cached by Hugging Face: %s", name, hit)
    try:
        base, seconds = _timed(
            lambda: find_base_model(
                name, folder=Path(), revision=revision, weights_sha256=recipe["model_weights_sha256"]
            )
        )
    except RequestError as error:
        log.info("This part is skipped: %s", error)
        return {**figures, "load_seconds": None}
    if not hit:
        log.info("Downloaded in %.2f seconds", seconds)
        figures["download_seconds"] = seconds
    return {**figures, "load_seconds": _load_cold_and_warm(base.folder, _load_from_hub)}


def _demo_own(request: Request, *, store: Store, stop: StopSignal) -> dict[str, Any]:
    section("A MODEL OF OUR OWN, FIRST RUN: IT IS TRAINED UNLESS THE CACHE HAS IT")
    (folder, first_hit), first = _timed(lambda: cached_train(request, store=store, stop=stop))
    log.info("Was it in the cache: %s", first_hit)
    log.info("First run: %.2f seconds", first)
    trained = _weights(folder)
    section("THE SAME MODEL, SECOND RUN: IT COMES FROM THE CACHE")
    (again, hit), second = _timed(lambda: cached_train(request, store=store, stop=stop))
    log.info("Was it in the cache: %s", hit)
    log.info("Second run: %.2f seconds to read the request's rows and find the model", second)
    loading = _load_cold_and_warm(again, _load_own)
    section("COMPARING MODEL PARAMETERS")
    loaded = _weights(again)
    if not hit or trained.keys() != loaded.keys() or any(trained[name] != loaded[name] for name in trained):
        raise RuntimeError("the cache gave back another model than was trained")
    log.info("All %d tensors of both runs have the same bits", len(loaded))
    log.info("Cache entry: %s", again)
    return {
        "key": again.name,
        "path": str(again),
        "hit": first_hit,
        "first_run_seconds": first,
        "second_run_seconds": second,
        "load_seconds": loading,
    }


def _load_cold_and_warm(folder: Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Times loading with the files dropped from memory, and again."""
    # The first load also imports modules: it is not timed.
    load(folder)
    dropped = _drop_from_memory(folder)
    _, cold = _timed(lambda: load(folder))
    _, warm = _timed(lambda: load(folder))
    log.info(
        "Model and tokenizer loading time: %.3f seconds %s, %.3f seconds warm",
        cold,
        "cold (files dropped from memory)" if dropped else "(files cannot be dropped from memory here)",
        warm,
    )
    return {"cold": cold if dropped else None, "warm": warm}


def _drop_from_memory(folder: Path) -> bool:
    """Asks the kernel to forget the files, so that the next read comes from the disk."""
    # macOS has neither.
    advise, not_needed = (getattr(os, name, None) for name in ("posix_fadvise", "POSIX_FADV_DONTNEED"))
    if advise is None:
        return False
    for path in (path for path in folder.rglob("*") if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            advise(descriptor, 0, 0, not_needed)
        finally:
            os.close(descriptor)
    return True


def _load_from_hub(folder: Path) -> Any:
    # find_base_model has checked the weights' hash.
    safe = any(folder.glob("*.safetensors"))
    return pretrained.load_tokenizer(folder), pretrained.load_model(
        folder, model_class="AutoModel", use_safetensors=safe
    )


def _load_own(folder: Path) -> Any:
    return load_tokenizer(folder), load_model(folder)


def _weights(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every tensor by name."""
    from safetensors import safe_open

    found: dict[str, bytes] = {}
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            found |= {f"{path.name}/{name}": file.get_tensor(name).tobytes() for name in names}
    return found


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started
