"""Labelled rows: classes and their names, and every refusal of rows that cannot be learnt from."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data import rows as data
from src.training.data.class_labels import ClassLabels
from src.training.data.labels import Labels
from src.training.data.rows import Examples, load_examples, read_tables
from src.training.data.tables import Table
from src.training.recipes.recipe import Recipe


def load_recipe(recipe: Recipe, folder: Path) -> tuple[dict[str, Examples], Labels]:
    return load_examples(recipe, read_tables(recipe, folder=folder))


def load(folder: Path, **files: str) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """Writes files named after the splits, and loads them. Returns the class names too."""
    given: dict[str, Any] = {f"{split}_file": f"{split}.csv" for split in files}
    for split, content in files.items():
        (folder / f"{split}.csv").write_text(content, encoding="utf-8")
    recipe = Recipe(model_name_or_path="tiny", text_column_name="text", **given)
    splits, labels = load_recipe(recipe, folder)
    return splits, labels.class_names


def refusal(folder: Path, **files: str) -> str:
    with pytest.raises(RequestError) as raised:
        load(folder, **files)
    return str(raised.value)


def test_rows_that_a_language_model_could_learn_name_its_task(tmp_path: Path) -> None:
    assert refusal(tmp_path, train="id,text\n1,the film was good\n").endswith(
        "; a language model learns them with --task text-generation"
    )
    assert refusal(tmp_path, train="prompt,reply\nhow was it,good\n").endswith(
        "; for a language model, rename reply to completion"
    )
    told = refusal(tmp_path, train="id,sentence\n1,the film was good\n")
    assert "language model" not in told and "--task" not in told


def labelled(*labels: str) -> str:
    return "text,label\n" + "".join(f"film {row},{label}\n" for row, label in enumerate(labels))


def hub(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], **labels: list[Any]) -> Recipe:
    """Lets the hub hold a dataset with these labels by split, whose label column knows its class names."""
    splits = {
        split: Table(
            origin=f"some/data ({split})",
            columns={"text": [f"film {row}" for row in range(len(values))], "label": values},
            class_names={"label": names} if names else {},
        )
        for split, values in labels.items()
    }
    monkeypatch.setattr(data, "read_hub", lambda *_, **__: splits)
    return Recipe(model_name_or_path="tiny", dataset_name="some/data", text_column_name="text")


def test_labels_become_indices_into_sorted_names(tmp_path: Path) -> None:
    splits, names = load(tmp_path, train=labelled("good", "bad", "good"), validation=labelled("bad"))
    assert names == ("bad", "good")
    assert (splits["train"].labels, splits["validation"].labels) == ((1, 0, 1), (0,))
    assert splits["train"].texts == ("film 0", "film 1", "film 2")


def test_labels_that_are_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    assert load(tmp_path, train=labelled("10", "9", "-1", "2"))[1] == ("-1", "2", "9", "10")
    assert load(tmp_path, train=labelled("10", "9", "two"))[1] == ("10", "9", "two")


def test_whole_numbers_are_named_the_same_whatever_type_they_are_stored_as(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for number, labels in enumerate(([1.0, 0.0], [1, 0], ["1", "0"])):
        parquet.write_table(pa.table({"text": ["a b", "c d"], "label": labels}), tmp_path / f"{number}.parquet")
        recipe = Recipe(model_name_or_path="tiny", train_file=f"{number}.parquet")
        assert load_recipe(recipe, tmp_path)[1].class_names == ("0", "1")


def test_white_space_around_a_label_is_no_part_of_it(tmp_path: Path) -> None:
    assert load(tmp_path, train=labelled("good", " good ", "bad"))[1] == ("bad", "good")


@pytest.mark.parametrize("labels", [("1", "1.0", "01", "2"), ("nan", "1", "3", "2")])
def test_the_order_of_classes_is_the_same_in_every_process(labels: tuple[str, ...]) -> None:
    program = f"""
from src.training.data.class_labels import ClassLabels
from src.training.data.tables import Table
table = Table(origin="a", columns={{"label": {list(labels)}}}, class_names={{}})
print(ClassLabels.read({{"train": table}}, "label")[0].names)
"""
    path = ":".join(sys.path)
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(5)
    }
    assert len(printed) == 1


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    assert "train.csv has one class only (label: good)" in refusal(tmp_path, train=labelled("good", "good"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_text_is_refused_with_its_row(tmp_path: Path, split: str) -> None:
    files = {"train": labelled("a", "b"), split: 'text,label\na film,a\n"  ",b\n'}
    assert f"{split}.csv, line 3: text is empty" in refusal(tmp_path, **files)


def test_an_empty_label_is_refused_with_its_row(tmp_path: Path) -> None:
    assert "train.csv, line 4: label is empty" in refusal(tmp_path, train=labelled("a", "b", ""))


def test_all_bad_rows_are_named_at_once_or_left_out_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["text,label", "a film,a", " ,b", '"two', 'lines",', "film 3,b", ",", "a film,a,b"]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    recipe = Recipe(model_name_or_path="t", train_file="train.csv", text_column_name="text", skip_bad_rows=True)
    with caplog.at_level("WARNING"):
        splits, _ = load_recipe(recipe, tmp_path)
    assert splits["train"].texts == ("a film", "film 3")
    assert caplog.messages[0].startswith("train.csv: 1 bad row is left out (line 8: 3 values for 2 columns")
    assert caplog.messages[1] == (
        "train.csv: 3 bad rows are left out (lines 3 and 7: text is empty; line 4: label is empty)"
    )
    (tmp_path / "train.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(RequestError, match="train.csv, lines 3 and 7: text is empty; line 4: label is empty: fill in"):
        load_recipe(replace(recipe, skip_bad_rows=False), tmp_path)
    (tmp_path / "train.csv").write_text("text,label\n ,a\n,b\n")
    with pytest.raises(RequestError, match="train.csv, lines 2 and 3: text is empty"):
        load_recipe(recipe, tmp_path)


def test_joined_texts_and_lists_of_labels_that_are_bad_are_left_out_too(tmp_path: Path) -> None:
    rows = ['"a", "label": ["x"]', '7, "label": ["x"]', '"b", "label": null', '"c", "label": []']
    (tmp_path / "t.jsonl").write_text("".join(f'{{"head": "film", "body": {row}}}\n' for row in rows))
    recipe = Recipe(model_name_or_path="t", train_file="t.jsonl", text_column_name="head,body", skip_bad_rows=True)
    assert load_recipe(recipe, tmp_path)[0]["train"].texts == ("film a", "film c")
    with pytest.raises(RequestError, match="t.jsonl, line 2: body is 7, not text: name columns with text"):
        load_recipe(replace(recipe, skip_bad_rows=False), tmp_path)
    (tmp_path / "t.jsonl").write_text("".join(f'{{"head": "film", "body": {row}}}\n' for row in rows[2:]))
    with pytest.raises(RequestError, match=r"t.jsonl, line 1: label is empty \(write \[\] for a row without labels\)"):
        load_recipe(replace(recipe, skip_bad_rows=False), tmp_path)


def test_a_column_without_text_is_told_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 7, "label": 0}\n{"text": 8, "label": 1}\n')
    recipe = Recipe(model_name_or_path="tiny", train_file="a.jsonl", text_column_name="text")
    with pytest.raises(RequestError, match="a.jsonl, line 1: text is 7, not text; line 2: text is 8"):
        load_recipe(recipe, tmp_path)


def test_a_label_that_train_never_saw_is_refused_with_those_it_knows(tmp_path: Path) -> None:
    message = refusal(tmp_path, train=labelled("bad", "good"), validation=labelled("bad", "ugly"))
    assert message == "validation.csv has labels that no train row has: 'ugly': the train rows have 'bad', 'good'"


def test_a_column_that_only_one_file_lacks_is_told_with_that_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, train=labelled("bad", "good"), test="text,stars\na film,1\n")
    assert "test.csv has no column 'label': it has text, stars" in message


def test_a_column_of_measurements_is_not_taken_for_classes(tmp_path: Path) -> None:
    message = refusal(tmp_path, train=labelled(*map(str, range(1500))))
    assert "label has 1,500 different values in 1,500 rows" in message
    assert message.endswith("or, if they are numbers to predict, --problem_type regression")
    splits, names = load(tmp_path, train=labelled(*(f"{row / 8}" for row in range(1500))))
    assert (names, splits["train"].labels[:3]) == ((), (0.0, 0.125, 0.25))


def test_a_float_that_marks_a_missing_class_is_refused_with_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = {"text": ["a b", "c d", "e f"], "label": [1.0, 0.0, float("nan")]}
    parquet.write_table(pa.table(rows), tmp_path / "rows.parquet")
    with pytest.raises(RequestError, match="rows.parquet, row 3: label is nan: fill in, correct or remove"):
        load_recipe(Recipe(model_name_or_path="tiny", train_file="rows.parquet"), tmp_path)


def test_values_are_read_from_every_split(tmp_path: Path) -> None:
    splits, names = load(tmp_path, train=labelled("0.5", "1", "-2.25"), validation=labelled("3", "3"))
    assert names == ()
    assert (splits["train"].labels, splits["validation"].labels) == ((0.5, 1.0, -2.25), (3.0, 3.0))
    assert "validation.csv, line 3: label is 'x', which is not a number" in refusal(
        tmp_path, train=labelled("0.5", "1", "-2.25"), validation=labelled("3", "x")
    )


def test_one_value_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(labelled("3", "3"))
    recipe = Recipe(model_name_or_path="tiny", train_file="train.csv", problem_type="regression")
    with pytest.raises(RequestError, match="train.csv: label is 3 in every row: there is nothing to learn"):
        load_recipe(recipe, tmp_path)


def test_hidden_values_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As GLUE's STS-B has it.
    recipe = hub(monkeypatch, (), train=[0.0, 4.5, 2.5], validation=[1.0, 3.5], test=[-1.0, -1.0])
    splits, _ = load_recipe(recipe, tmp_path)
    assert set(splits) == {"train", "validation"}


def test_many_classes_with_many_rows_each_are_classes(tmp_path: Path) -> None:
    assert len(load(tmp_path, train=labelled(*(str(row % 1100) for row in range(5500))))[1]) == 1100


def test_class_names_of_the_source_are_kept_in_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = hub(monkeypatch, ("positive", "negative"), train=[0, 1, 1], test=[1])
    splits, labels = load_recipe(recipe, tmp_path)
    assert labels.class_names == ("positive", "negative")
    assert (splits["train"].labels, splits["test"].labels) == ((0, 1, 1), (1,))


def test_a_split_whose_labels_are_hidden_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = hub(monkeypatch, ("no", "yes"), train=[0, 1, -1], validation=[1, 0], test=[-1, -1])
    splits, _ = load_recipe(recipe, tmp_path)
    assert set(splits) == {"train", "validation"}
    assert splits["train"].texts == ("film 0", "film 1")


def test_all_bad_labels_are_named_at_once_or_left_out_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text(labelled("0.5", "n/a", "1.5", "1e999", "2"))
    recipe = Recipe(model_name_or_path="t", train_file="a.csv", problem_type="regression")
    with pytest.raises(RequestError, match=r"a.csv, line 3: label is 'n/a', .*; line 5: label is 1e999: "):
        load_recipe(recipe, tmp_path)
    splits, _ = load_recipe(replace(recipe, skip_bad_rows=True), tmp_path)
    assert splits["train"].labels == (0.5, 1.5, 2.0)
    assert "a.csv: 2 bad rows are left out" in caplog.text


def test_words_for_a_missing_value_are_no_classes_unless_the_recipe_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(labelled("a", "nan", "b", "null", "<NA>"))
    recipe = Recipe(model_name_or_path="t", train_file="a.csv")
    with pytest.raises(RequestError, match="line 3: label is 'nan', which .*; line 5: label is 'null', .*; line 6"):
        load_recipe(recipe, tmp_path)
    _, labels = load_recipe(replace(recipe, problem_type="classification"), tmp_path)
    assert set(labels.class_names) == {"a", "b", "nan", "null", "<NA>"}


def test_an_object_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a b", "label": "x"}\n\n{"text": "c d", "label": {"name": "y"}}\n')
    with pytest.raises(RequestError, match="a.jsonl, line 3: label is {'name': 'y'}: an object, not a label"):
        load_recipe(Recipe(model_name_or_path="t", train_file="a.jsonl"), tmp_path)


def test_labels_of_a_source_with_class_names_may_be_names_or_floats_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for train in (["no", "yes", "yes"], [0.0, 1.0, 1.0]):
        splits, _ = load_recipe(hub(monkeypatch, ("no", "yes"), train=train), tmp_path)
        assert splits["train"].labels == (0, 1, 1)
    with pytest.raises(RequestError, match="row 2: label is 2, which has no name: .*; row 3: label is 'maybe', which"):
        load_recipe(hub(monkeypatch, ("no", "yes"), train=[0, 2, "maybe", 1]), tmp_path)
    with pytest.raises(RequestError, match="label is -1 in every row: its labels are hidden"):
        load_recipe(hub(monkeypatch, ("no", "yes"), train=[-1, -1]), tmp_path)


def test_a_label_that_a_source_with_class_names_leaves_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="row 3: label is empty"):
        load_recipe(hub(monkeypatch, ("no", "yes"), train=[0, 1, None]), tmp_path)


def test_embedded_data_without_train_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.locate, "embedded_dataset", lambda _: {"test": tmp_path / "tweets.csv"})
    recipe = Recipe(model_name_or_path="tiny", dataset_name="embedded:tweets")
    with pytest.raises(RequestError, match="embedded:tweets has test rows only: use embedded:movie_reviews"):
        load_recipe(recipe, tmp_path)


ROWS = Examples(split="train", texts=("a film", "b"), labels=(0, 1))
NAMES = ClassLabels(("bad", "good"))


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (Examples(split="train", texts=("a film", "c"), labels=(0, 1)), NAMES),
        (Examples(split="train", texts=("a film", "b"), labels=(0, 0)), NAMES),
        (Examples(split="train", texts=("b", "a film"), labels=(1, 0)), NAMES),
        (Examples(split="train", texts=("a film",), labels=(0,)), NAMES),
        (ROWS, ClassLabels(("bad", "great"))),
        # The same letters, cut elsewhere: a text holds the label and the text of the next row.
        (Examples(split="train", texts=("a filmbadb",), labels=(1,)), NAMES),
    ],
)
def test_the_hash_changes_with_any_text_label_or_order(rows: Examples, names: ClassLabels) -> None:
    assert rows.sha256(names) != ROWS.sha256(NAMES)


def test_the_hash_is_of_names_not_of_their_indices_or_the_split() -> None:
    turned = Examples(split="validation", texts=("a film", "b"), labels=(1, 0))
    assert turned.sha256(ClassLabels(("good", "bad"))) == ROWS.sha256(NAMES)


def test_rows_are_taken_in_the_order_asked_for() -> None:
    taken = ROWS.select([1, 0], split="test")
    assert (taken.texts, taken.labels, taken.split) == (("b", "a film"), (1, 0), "test")
