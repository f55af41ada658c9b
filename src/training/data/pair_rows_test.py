"""Rows that are pairs of texts: their columns, what makes two of them the same, and their hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.class_labels import ClassLabels
from src.training.data.rows import Examples, load_examples, read_tables
from src.training.data.value_labels import ValueLabels
from src.training.recipes.recipe import Recipe

NAMES = ClassLabels(("bad", "good"))
PAIRED = "premise,conclusion,label\na film,a story,yes\na film,a dull film,no\n"


def load_pairs(folder: Path, content: str = PAIRED, **fields: Any) -> Examples:
    (folder / "train.csv").write_text(content)
    defaults = {"text_column_name": "premise", "text_pair_column_name": "conclusion"}
    recipe = Recipe(model_name_or_path="tiny", train_file="train.csv", **{**defaults, **fields})
    return load_examples(recipe, read_tables(recipe, folder=folder))[0]["train"]


def test_pairs_are_read_with_both_texts(tmp_path: Path) -> None:
    rows = load_pairs(tmp_path)
    assert (rows.texts, rows.text_pairs) == (("a film", "a film"), ("a story", "a dull film"))
    taken = rows.select([1])
    assert (taken.texts, taken.text_pairs, taken.labels) == (("a film",), ("a dull film",), (0,))


def test_the_first_text_of_a_pair_is_the_only_other_column(tmp_path: Path) -> None:
    assert load_pairs(tmp_path, text_column_name=None) == load_pairs(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"text_pair_column_name": "conclusions"},
            r"train.csv has no column 'conclusions' \(did you mean conclusion\?\): it has premise, conclusion, label "
            r"\(name them with --text_column_name, --text_pair_column_name and --label_column_name\)",
        ),
        ({"text_column_name": "premises"}, r"no column 'premises' \(did you mean premise\?\)"),
        ({"text_pair_column_name": "premise"}, "--text_column_name and --text_pair_column_name both name 'premise'"),
        ({"text_pair_column_name": "label"}, "--text_pair_column_name and --label_column_name both name 'label'"),
        (
            {"text_column_name": None, "text_pair_column_name": None},
            "with --text_column_name, and, if the rows are pairs of texts, the other with --text_pair_column_name",
        ),
    ],
)
def test_columns_that_are_not_there_or_named_twice_are_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        load_pairs(tmp_path, **fields)


def test_an_empty_second_text_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="train.csv, line 3: conclusion is empty"):
        load_pairs(tmp_path, PAIRED.replace("a dull film", " "))


def test_a_pair_is_the_same_text_whichever_stands_first() -> None:
    pairs = Examples(
        split="train", texts=("a b", "c", "a", "C"), text_pairs=("c", "a b", "b c", "A b"), labels=(0, 1, 0, 1)
    )
    whole = [text.lower() for text in pairs.whole_texts]
    assert whole[0] == whole[1] == whole[3] != whole[2]
    single = Examples(split="train", texts=("a film", "b"), labels=(0, 1))
    assert single.whole_texts == single.texts


def test_the_hash_is_of_both_texts_and_of_values() -> None:
    pairs = Examples(split="train", texts=("a", "b"), text_pairs=("c", "d"), labels=(0, 1))
    others = [
        Examples(split="train", texts=("a", "b"), text_pairs=("c", "e"), labels=(0, 1)),
        Examples(split="train", texts=("c", "b"), text_pairs=("a", "d"), labels=(0, 1)),
        Examples(split="train", texts=("a", "b"), labels=(0, 1)),
    ]
    assert len({rows.sha256(NAMES) for rows in (pairs, *others)}) == 4
    values = [Examples(split="train", texts=("a", "b"), labels=labels) for labels in ((0.5, 1.0), (0.5, 1.25))]
    assert values[0].sha256(ValueLabels("label")) != values[1].sha256(ValueLabels("label"))
