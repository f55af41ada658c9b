"""Keeps trained models by a hash of all that decides them: bazel run //src/cache_manager:cache_manager -- --help

Also importable, with the tutorial's name: `ModelCacheManager`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from src.cache_manager.key import named_key
from src.cache_manager.manifest import Manifest
from src.cache_manager.store import Store, default_root
from src.training.artifact import is_artifact
from src.training.errors import EXIT_DONE, RequestError, exit_code_of
from src.training.train_model import choose_default_recipe

log = logging.getLogger("finetune.cache")


class NotCachedError(LookupError):
    """The cache has no whole model of that name and revision."""


class ModelCacheManager:
    """The tutorial's cache of models by name and revision, beside the entries that are kept by key.

    A name says nothing of data or settings: `cached_train` keeps models by all that decides them.
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
        """Whether a whole model is there. A folder alone is none: a killed training may have left it."""
        return is_artifact(self.get_cache_path(model_name, revision))

    def is_cached_by_hugging_face(self, model_name: str, revision: str = "main") -> bool:
        """Whether the hub's own cache has that revision of a model, whole."""
        from src.cache_manager.hub import cached_snapshot

        return cached_snapshot(model_name, revision) is not None

    def load_model(self, model_name: str, revision: str = "main") -> tuple[Any, Any]:
        """Loads a kept model; returns it with its tokenizer.

        Raises:
            NotCachedError: there is none.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        path = self.get_cache_path(model_name, revision)
        if not is_artifact(path):
            raise NotCachedError(
                f"{model_name} ({revision}) is not in the cache: train it with output_dir={str(path)!r}"
            )
        log.info("Loading model from %s", path)
        return AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="cache_manager",
        usage="bazel run //src/cache_manager:cache_manager -- [demo [FLAGS OF train_model] | ls [--json]]",
        description="Keeps trained models by a hash of all that decides them.",
    )
    parser.add_argument("command", nargs="?", default="demo", choices=("demo", "ls"))
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines (ls)")
    if arguments[:1] and arguments[0].startswith("--") and arguments[0] not in ("--help", "--json"):
        arguments = ["demo", *arguments]
    options, rest = parser.parse_known_args(arguments)
    store = Store(default_root())
    if options.command == "ls":
        return exit_code_of("cache_manager", lambda: _list(store, as_json=options.json, rest=rest), debug=False)
    return exit_code_of("cache_manager", lambda: _demo(store, rest), debug="--debug" in rest)


def _demo(store: Store, arguments: list[str]) -> int:
    from src.training.console import configure_logging
    from src.training.request import parse_request
    from src.training.runtime import StopSignal

    request = parse_request(arguments, default_recipe=choose_default_recipe)
    if request.options.output_dir is not None:
        raise RequestError("--output_dir has no place here: the cache decides where a model is kept")
    configure_logging()
    from src.cache_manager.demo import demo

    stop = StopSignal(deadline_seconds=request.options.deadline_seconds)
    stop.install()
    demo(request, store=store, stop=stop)
    return EXIT_DONE


def _list(store: Store, *, as_json: bool, rest: list[str]) -> int:
    if rest:
        raise RequestError(f"{rest[0]} is not a flag of ls: it takes --json")
    entries = [_describe(manifest, folder) for manifest, folder in store.entries()]
    if as_json:
        sys.stdout.write(json.dumps(entries, indent=2) + "\n")
        return EXIT_DONE
    for entry in entries:
        sys.stdout.write("{key:.12}  {size_bytes:>13,}  {state:<10}  {model_name}\n".format_map(entry))
    sys.stdout.write(f"{len(entries)} models in {store.root}\n")
    return EXIT_DONE


def _describe(manifest: Manifest | None, folder: Path) -> dict[str, Any]:
    """Returns what `ls` tells of an entry. Files are compared with their hashes when an entry is used."""
    return {
        "key": folder.name,
        "model_name": None if manifest is None else manifest.model_name,
        "size_bytes": 0 if manifest is None else manifest.size_bytes,
        "created": None if manifest is None else manifest.created,
        "state": "incomplete" if manifest is None else "ok",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
