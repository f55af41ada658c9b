"""Keeps trained models under a hash of everything that decides them.

    bazel run //src/cache_manager:cache_manager -- --help

Also importable, with the tutorial's name: `ModelCacheManager`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from src.cache_manager.commands.program import run_command
from src.cache_manager.store.document import named_key
from src.cache_manager.store.layout import default_root
from src.training.run.artifact import is_artifact

log = logging.getLogger("finetune.cache")


class NotCachedError(LookupError):
    """The cache has no whole model of that name and revision."""


class ModelCacheManager:
    """The tutorial's cache of models by name and revision, beside the entries that are kept by key.

    A name says nothing about data or settings: `cached_train` keeps models by everything that decides them.
    """

    def __init__(self, cache_dir: str | Path | None = None) -> None:
        """Takes the cache's root; by default $FINETUNE_CACHE_DIR or the platform's cache folder."""
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir is not None else default_root()

    def get_cache_path(self, model_name: str, revision: str = "main") -> Path:
        """Returns where a model of this name and revision is kept.

        Given to `train_classifier` as output_dir, it is filled.
        """
        return self.cache_dir / "named" / named_key(model_name, revision)

    def is_cached_manually(self, model_name: str, revision: str = "main") -> bool:
        """Whether a whole model is kept. A folder alone is none: a killed training may have left it."""
        return is_artifact(self.get_cache_path(model_name, revision))

    def is_cached_by_hugging_face(self, model_name: str, revision: str = "main") -> bool:
        """Whether the hub's own cache has that revision of a model, whole."""
        from src.cache_manager.hub import cached_snapshot

        return cached_snapshot(model_name, revision) is not None

    def load_model(self, model_name: str, revision: str = "main") -> tuple[Any, Any]:
        """Loads a kept model; returns it with its tokenizer.

        Raises:
            NotCachedError: none is kept.
        """
        from src.cache_manager.loading import load_model, load_tokenizer

        path = self.get_cache_path(model_name, revision)
        if not is_artifact(path):
            raise NotCachedError(
                f"{model_name} ({revision}) is not in the cache: train it with output_dir={str(path)!r}"
            )
        log.info("Loading model from %s", path)
        return load_model(path), load_tokenizer(path)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
