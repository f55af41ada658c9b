"""Which columns hold the text and the label, and the splits of a dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.tables import Table, choose_columns, dataset_tables


def table(**named: list[Any]) -> Table:
    return Table(origin="my.csv", columns=named, class_names={})


def test_named_columns_are_taken() -> None:
    assert choose_columns(table(review=["a b"], stars=["1"]), text="review", label="stars") == ("review", "stars")


def test_the_only_other_column_with_text_is_found() -> None:
    rows = table(id=["1", "2"], review=["a film", "b"], score=[0.5, 0.25], label=["x", "y"])
    assert choose_columns(rows, text=None, label="label") == ("review", "label")


def test_the_only_other_column_is_the_text_in_any_script() -> None:
    for texts in (["这部电影很好看", "无聊"], ["หนังดีมาก", "แย่"], ["great", "poor"], ["fine", 2024, None]):
        rows = table(**{"Unnamed: 0": ["0", "1"], "words": texts, "label": ["1", "2"]})
        assert choose_columns(rows, text=None, label="label") == ("words", "label")
    with pytest.raises(RequestError, match="name the one with text"):
        choose_columns(table(number=["1", "2"], label=["a", "b"]), text=None, label="label")


def test_a_text_without_spaces_is_told_from_codes_and_numbers() -> None:
    rows = table(id=["a1", "a2"], words=["这部电影很好看", "很好"], stars=[5, 1], label=["x", "y"])
    assert choose_columns(rows, text=None, label="label") == ("words", "label")


def test_missing_columns_are_all_reported_with_those_that_exist() -> None:
    with pytest.raises(RequestError) as raised:
        choose_columns(table(review=["a b"], stars=["1"]), text="text", label="label")
    assert "my.csv has no column 'text' and no column 'label': it has review, stars" in str(raised.value)


def test_two_columns_that_could_be_the_text_have_to_be_told_apart() -> None:
    with pytest.raises(RequestError, match="title, body, label: name the one with text with --text_column_name"):
        choose_columns(table(title=["a b"], body=["c d"], label=["1"]), text=None, label="label")


def test_splits_are_found_by_the_names_that_datasets_give_them() -> None:
    import datasets

    one, two = (datasets.Dataset.from_dict({"text": [text], "label": [1]}) for text in ("a film", "b"))
    found = dataset_tables({"unsupervised": one, "dev": two, "train": one}, origin="some/data")
    assert {split: (rows.origin, rows.columns["text"]) for split, rows in found.items()} == {
        "train": ("some/data (train)", ["a film"]),
        "validation": ("some/data (dev)", ["b"]),
    }


def test_a_dataset_that_is_neither_cached_nor_served_is_refused_at_once(tmp_path: Path) -> None:
    # In a process of its own: datasets reads its environment once. Port 9 refuses every connection, which datasets
    # would try for 20 s and more; to load it is not what is timed.
    names = {"dataset_name": "some/data", "dataset_config_name": "en", "dataset_revision": "1" * 40}
    program = f"""
import time
import datasets
from src.cli.errors import RequestError
from src.training.environment.hub import _dataset_is_cached
from src.training.data.tables import read_hub
began = time.monotonic()
try:
    read_hub("some/data", config="en", revision=None)
except RequestError as error:
    print(error)
print(time.monotonic() - began)
print(_dataset_is_cached({names}))
"""
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    refused, seconds, cached = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **unreachable, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()
    assert float(seconds) < 15
    assert "cannot load dataset some/data" in refused
    assert "use --dataset_name embedded:movie_reviews" in refused
    assert cached == "False"
