"""Folders that datasets has saved: read as a hub dataset is, or refused in one sentence."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from src.cli.errors import RequestError
from src.training.data.rows import load_examples, read_tables
from src.training.data.saved_dataset import read_saved_dataset, saved_dataset_mistakes
from src.training.recipes.recipe import Recipe

FEATURES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})
ARROW = "data-00000-of-00001.arrow"


def dataset(*labels: int) -> datasets.Dataset:
    texts = [f"film {row}" for row in range(len(labels))]
    return datasets.Dataset.from_dict({"text": texts, "label": list(labels)}, features=FEATURES)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved datasets: `one` without splits, `three` with them, `test_only`."""
    folder = tmp_path_factory.mktemp("material")
    datasets.disable_progress_bars()
    dataset(0, 1, 1, 0, 1).save_to_disk(folder / "one", num_shards=2)
    splits = {"train": dataset(0, 1, 1), "dev": dataset(1), "test": dataset(0, 0), "unsupervised": dataset(-1)}
    datasets.DatasetDict(splits).save_to_disk(folder / "three")
    datasets.DatasetDict({"test": dataset(0, 1)}).save_to_disk(folder / "test_only")
    return folder


def load(folder: Path, **fields: Any) -> dict[str, tuple[Any, ...]]:
    """Returns the labels by split."""
    recipe = Recipe(model_name_or_path="tiny", text_column_name="text", **fields)
    splits, labels = load_examples(recipe, read_tables(recipe, folder=folder))
    assert labels.class_names == ("pos", "neg")
    return {split: rows.labels for split, rows in splits.items()}


def test_its_splits_are_used_as_those_of_a_hub_dataset(material: Path) -> None:
    wanted = {"train": (0, 1, 1), "validation": (1,), "test": (0, 0)}
    assert load(material, dataset_name="./three") == wanted
    assert load(material, train_file="three") == wanted
    assert load(material, dataset_name=str(material / "three")) == wanted


def test_rows_without_splits_are_what_they_are_named_for(material: Path) -> None:
    assert load(material, dataset_name="./one") == {"train": (0, 1, 1, 0, 1)}
    assert load(material, train_file="one", test_file="one") == {"train": (0, 1, 1, 0, 1), "test": (0, 1, 1, 0, 1)}


def test_a_file_named_for_a_split_takes_the_place_of_the_folders_own(material: Path) -> None:
    assert load(material, train_file="three", test_file="test_only") == {
        "train": (0, 1, 1),
        "validation": (1,),
        "test": (0, 1),
    }


def test_the_format_it_was_saved_with_does_not_matter(tmp_path: Path) -> None:
    # It would leave out the text, and make tensors of the labels.
    dataset(0, 1).with_format("numpy", columns=["label"]).save_to_disk(tmp_path / "saved")
    assert load(tmp_path, train_file="saved") == {"train": (0, 1)}


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda folder: (folder / "train" / "state.json").unlink(), "train/state.json is missing"),
        (lambda folder: (folder / "dev" / "dataset_info.json").unlink(), "dev/dataset_info.json is missing"),
        (lambda folder: (folder / "test" / ARROW).unlink(), f"test/{ARROW} is missing"),
        (lambda folder: shutil.rmtree(folder / "dev"), "dev/state.json is missing"),
        (lambda folder: (folder / "train" / "state.json").write_text(""), "its description cannot be read"),
        (lambda folder: (folder / "dataset_dict.json").write_text("[]"), "its description cannot be read"),
        (lambda folder: _cut(folder / "train" / ARROW, 1), f"train/{ARROW} is cut off"),
        # At the end of a batch of rows: what is left reads well, and lacks nothing but rows.
        (lambda folder: _cut(folder / "train" / ARROW, 8), f"train/{ARROW} is cut off"),
        (lambda folder: (folder / "train" / ARROW).write_bytes(b""), f"train/{ARROW} is cut off"),
    ],
)
def test_a_half_saved_folder_is_refused(
    material: Path, tmp_path: Path, spoil: Callable[[Path], object], phrase: str
) -> None:
    folder = shutil.copytree(material / "three", tmp_path / "saved")
    spoil(folder)
    with pytest.raises(RequestError, match="is not a complete dataset") as raised:
        read_saved_dataset(folder, role="train")
    assert phrase in str(raised.value) and "save it again with save_to_disk" in str(raised.value)
    assert "\n" not in str(raised.value)
    # Reported before anything is loaded as well.
    assert phrase in saved_dataset_mistakes({"dataset_name": "./saved"}, folder=tmp_path)[0]


def _cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_damaged_rows_are_refused(material: Path, tmp_path: Path, at: float) -> None:
    folder = shutil.copytree(material / "three", tmp_path / "saved")
    path = folder / "train" / ARROW
    content = bytearray(path.read_bytes())
    # In the middle stand the texts.
    start = content.index(b"film 0") if at else 0
    content[start : start + 4] = b"\xff\xfe\xfd\xfc"
    path.write_bytes(bytes(content))
    with pytest.raises(RequestError, match="cannot be read as a saved dataset .*: save it again"):
        read_saved_dataset(folder, role="train")


def test_a_split_that_is_missing_is_reported_with_those_that_exist(material: Path) -> None:
    with pytest.raises(RequestError, match="test_only has no train split: it has test$"):
        load(material, dataset_name="./test_only")
    with pytest.raises(RequestError, match="test_only has no validation split: it has test$"):
        load(material, train_file="one", validation_file="test_only")


def test_no_rows_are_refused(tmp_path: Path) -> None:
    dataset().save_to_disk(tmp_path / "saved")
    with pytest.raises(RequestError, match="saved is not a complete dataset .state.json names no rows"):
        load(tmp_path, train_file="saved")


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({"dataset_name": "./nowhere"}, "dataset_name ./nowhere does not exist"),
        ({"dataset_name": "./rows.csv"}, "dataset_name ./rows.csv is a file: name it with --train_file"),
        ({"dataset_name": "./empty"}, "dataset_name ./empty is not a folder saved by datasets"),
        # A name on the hub must not become a folder's because there happens to be one.
        ({"dataset_name": "saved"}, "dataset_name saved is also a folder saved by datasets: write ./saved"),
        (
            {"dataset_name": "./saved", "dataset_config_name": "sst2"},
            "dataset_config_name is for a hub dataset",
        ),
    ],
)
def test_a_wrong_name_is_reported(tmp_path: Path, values: dict[str, str], phrase: str) -> None:
    dataset(0, 1).save_to_disk(tmp_path / "saved")
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("text,label\na,1\n")
    [mistake] = saved_dataset_mistakes(values, folder=tmp_path)
    assert mistake.startswith(phrase)


def test_a_name_on_the_hub_and_a_whole_folder_are_no_mistakes(material: Path) -> None:
    for name in ("some/data", "embedded:movie_reviews", "./three", str(material / "one")):
        assert saved_dataset_mistakes({"dataset_name": name}, folder=material) == []


def test_reading_leaves_the_folder_as_it_was(material: Path) -> None:
    def bits() -> dict[str, str]:
        files = [path for path in material.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = bits()
    load(material, dataset_name="./three")
    assert bits() == before
