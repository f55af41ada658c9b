"""Where the material is found, when it is derived, and the error when it cannot be."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from src.training.embedded import locate, minilm, pins

_CONTENT = b"derived"
_PINS = {"file": hashlib.sha256(_CONTENT).hexdigest()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run without Bazel's outputs and with an empty cache folder."""
    monkeypatch.setattr(locate, "_HERE", tmp_path / "source")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "finetune-repo" / "embedded"


def derive(folder: Path) -> None:
    (folder / "file").write_bytes(_CONTENT)


def derive_something_else(folder: Path) -> None:
    (folder / "file").write_bytes(b"something else")


def never(folder: Path) -> None:
    raise AssertionError(f"derived again into {folder}")


# The third, of 538 MB, has its own test beside the program that derives it.
@pytest.mark.parametrize("name", locate.MODELS[:2])
def test_every_model_is_a_folder_that_from_pretrained_can_read(name: str) -> None:
    folder = locate.embedded_model(name)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_some_data_sets_have_three_splits_and_other_domains_test_rows_only() -> None:
    splits = {name: set(locate.embedded_dataset(name)) for name in locate.DATASETS}
    for name in ("movie_reviews", "movie_ratings", "domain_sentiment"):
        assert splits.pop(name) == {"train", "validation", "test"}
    assert set(map(frozenset, splits.values())) == {frozenset({"test"})}
    assert all(path.is_file() for name in locate.DATASETS for path in locate.embedded_dataset(name).values())


def test_an_unknown_name_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'bert_tiny'; valid names: bert_tiny_minilm, minilm-l6, smollm2"):
        locate.embedded_model("bert_tiny")
    with pytest.raises(ValueError, match="'sst2'; valid names: movie_reviews, movie_ratings, domain_sentiment, amazon"):
        locate.embedded_dataset("sst2")


def test_what_is_absent_is_derived_once(cache: Path) -> None:
    first = locate._derived("thing", _PINS, derive)
    assert first.parent == cache
    assert locate._derived("thing", _PINS, never) == first


def _has_no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("home", [_has_no_home, lambda: Path("/proc")])
def test_without_a_home_to_write_to_it_is_derived_into_a_folder_that_goes_with_the_process(
    home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    locate._temporary_folder.cache_clear()
    folder = locate._derived("thing", _PINS, derive)
    assert (folder / "file").read_bytes() == _CONTENT
    locate._temporary_folder().cleanup()
    assert not folder.exists()
    locate._temporary_folder.cache_clear()


def test_bazels_output_is_taken_where_it_stands(cache: Path) -> None:
    beside = locate._HERE / "thing"
    beside.mkdir(parents=True)
    derive(beside)
    assert locate._derived("thing", _PINS, never) == beside
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_a_damaged_cached_file_is_derived_anew() -> None:
    folder = locate._derived("thing", _PINS, derive)
    derive_something_else(folder)
    assert (locate._derived("thing", _PINS, derive) / "file").read_bytes() == _CONTENT


@pytest.mark.usefixtures("cache")
def test_a_damaged_output_of_bazel_is_refused() -> None:
    beside = locate._HERE / "thing"
    beside.mkdir(parents=True)
    derive_something_else(beside)
    with pytest.raises(pins.PinMismatchError, match="not the pinned file"):
        locate._derived("thing", _PINS, never)


def test_a_derivation_that_fails_leaves_nothing_behind(cache: Path) -> None:
    with pytest.raises(pins.PinMismatchError):
        locate._derived("thing", _PINS, derive_something_else)
    assert list(cache.iterdir()) == []


def test_losing_a_race_to_another_process_is_no_error(cache: Path) -> None:
    def derive_while_another_finishes(folder: Path) -> None:
        derive(folder)
        locate._derived("thing", _PINS, derive)

    assert (locate._derived("thing", _PINS, derive_while_another_finishes) / "file").read_bytes() == _CONTENT
    assert len(list(cache.iterdir())) == 1


def test_base_model_is_derived_without_bazel(cache: Path) -> None:
    locate.embedded_model.cache_clear()
    try:
        folder = locate.embedded_model("bert_tiny_minilm")
    finally:
        locate.embedded_model.cache_clear()
    assert folder.parent == cache
    pins.check_folder(folder, pins.BERT_TINY_MINILM)


@pytest.mark.usefixtures("cache")
def test_a_missing_sdist_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locate, "_REPO_ROOT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"run \./setup\.sh"):
        locate._derived("movie_reviews", pins.MOVIE_REVIEWS, locate._derive_data)


def test_a_missing_package_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "MINILM_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(FileNotFoundError, match=r"a_package_that_nobody_has.*run \./setup\.sh"):
        minilm.minilm_folder()


def test_importing_locate_loads_nothing_heavy() -> None:
    program = "import sys; import src.training.embedded.locate; print(*sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"numpy", "torch", "transformers", "safetensors"} & set(child.stdout.split())
