"""The tutorial's two stories, timed honestly: a hub model and a model of one's own, cold and warm."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.cache_manager.cached_train import cached_train
from src.cache_manager.hub import cached_snapshot
from src.cache_manager.store import Store
from src.training.console import section
from src.training.request import Request
from src.training.runtime import StopSignal

_HUB_MODEL = "prajjwal1/bert-tiny"

log = logging.getLogger("finetune")


def demo(request: Request, *, store: Store, stop: StopSignal) -> None:
    """Tells both stories on standard output.

    Raises:
        RuntimeError: the cache gave back another model than was trained.
    """
    _hub_story()
    _own_story(request, store=store, stop=stop)


def _hub_story() -> None:
    from huggingface_hub import snapshot_download

    section("A HUGGING FACE MODEL")
    cached = cached_snapshot(_HUB_MODEL)
    log.info("Is %s cached by Hugging Face: %s", _HUB_MODEL, cached is not None)
    if cached is None:
        try:
            path, seconds = _timed(lambda: Path(snapshot_download(_HUB_MODEL)))
        except OSError:
            log.info("The hub cannot be reached, so this story cannot be told here.")
            return
        log.info("Downloaded in %.2f seconds", seconds)
        cached = path
    _load_cold_and_warm(cached)


def _own_story(request: Request, *, store: Store, stop: StopSignal) -> None:
    section("A MODEL OF OUR OWN, FIRST RUN: IT IS TRAINED UNLESS THE CACHE HAS IT")
    (folder, hit), first = _timed(lambda: cached_train(request, store=store, stop=stop))
    log.info("Was it in the cache: %s", hit)
    log.info("First run: %.2f seconds", first)
    trained = _weights(folder)
    section("THE SAME MODEL, SECOND RUN: IT COMES FROM THE CACHE")
    (again, hit), second = _timed(lambda: cached_train(request, store=store, stop=stop))
    log.info("Was it in the cache: %s", hit)
    log.info("Second run: %.2f seconds to find it and check every file by hash", second)
    _load_cold_and_warm(again)
    section("COMPARING MODEL PARAMETERS")
    loaded = _weights(again)
    if not hit or trained.keys() != loaded.keys() or any(trained[name] != loaded[name] for name in trained):
        raise RuntimeError("the cache gave back another model than was trained")
    log.info("All %d tensors of both runs have the same bits", len(loaded))
    log.info("Cache entry: %s", again)


def _load_cold_and_warm(folder: Path) -> None:
    """Times loading with the files dropped from memory, and again."""
    dropped = _drop_from_memory(folder)
    _, cold = _timed(lambda: _load(folder))
    _, warm = _timed(lambda: _load(folder))
    log.info(
        "Model loading time: %.2f seconds %s, %.2f seconds warm",
        cold,
        "cold (files dropped from memory)" if dropped else "first",
        warm,
    )


def _drop_from_memory(folder: Path) -> bool:
    """Asks the kernel to forget the files, so that the next read comes from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True


def _load(folder: Path) -> Any:
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)


def _weights(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every tensor by name."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        names = file.keys()
        return {name: file.get_tensor(name).tobytes() for name in names}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started
