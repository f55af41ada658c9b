"""Which rows are for training, which choose the epoch, and which are for the final scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.parts import Task, divide
from src.training.data.rows import Examples, load_examples, read_tables
from src.training.recipes.recipe import Recipe

ROWS = {"train": 100, "validation": 30, "test": 20}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file per split; every text begins with its split."""
    for split, rows in ROWS.items():
        lines = (f"{split} film {row},{'good' if row % 2 else 'bad'}\n" for row in range(rows))
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "".join(lines))
    return tmp_path


def load(folder: Path, *given: str, **fields: Any) -> Task[Examples]:
    """Loads the task of a recipe that names the train file and those given."""
    files = {f"{split}_file": f"{split}.csv" for split in ("train", *given)}
    recipe = Recipe(model_name_or_path="tiny", **{**files, **fields})
    return divide(*load_examples(recipe, read_tables(recipe, folder=folder)), recipe)


def roles(task: Task[Examples]) -> list[tuple[int, str, set[str]]]:
    """Rows, split, and the files they come from, of train, progress and final."""
    parts = (task.train, task.validation, task.test)
    return [(len(rows), rows.split, {text.split()[0] for text in rows.texts}) for rows in parts]


def test_with_validation_and_test_rows_each_has_its_part(folder: Path) -> None:
    task = load(folder, "validation", "test")
    assert roles(task) == [(100, "train", {"train"}), (30, "validation", {"validation"}), (20, "test", {"test"})]
    assert task.selects_epoch


def test_with_test_rows_only_a_tenth_of_train_chooses_the_epoch(folder: Path) -> None:
    task = load(folder, "test")
    assert roles(task) == [(90, "train", {"train"}), (10, "validation", {"train"}), (20, "test", {"test"})]
    assert task.selects_epoch


def test_with_validation_rows_only_they_are_final_and_choose_nothing(folder: Path) -> None:
    task = load(folder, "validation")
    assert roles(task) == [(100, "train", {"train"}), *[(30, "validation", {"validation"})] * 2]
    assert not task.selects_epoch


def test_with_validation_rows_only_a_named_fraction_of_train_chooses_the_epoch(folder: Path) -> None:
    task = load(folder, "validation", validation_fraction=0.25)
    aside, final = (25, "validation", {"train"}), (30, "validation", {"validation"})
    assert roles(task) == [(75, "train", {"train"}), aside, final]
    assert task.selects_epoch


def test_with_train_rows_only_a_tenth_is_final_and_chooses_nothing(folder: Path) -> None:
    task = load(folder)
    assert roles(task) == [(90, "train", {"train"}), *[(10, "validation", {"train"})] * 2]
    assert task.validation == task.test
    assert not task.selects_epoch


def test_no_epoch_is_chosen_where_the_recipe_does_not_want_it(folder: Path) -> None:
    assert not load(folder, "validation", "test", load_best_model_at_end=False).selects_epoch


def test_rows_set_aside_are_not_trained_on_and_none_is_lost(folder: Path) -> None:
    task = load(folder)
    assert not set(task.train.texts) & set(task.test.texts)
    assert len(set(task.train.texts) | set(task.test.texts)) == 100


def test_labels_stay_with_their_texts(folder: Path) -> None:
    for rows in (load(folder).train, load(folder, max_train_samples=7).train):
        for text, label in zip(rows.texts, rows.labels, strict=True):
            assert label == int(text.split()[-1]) % 2


def test_rows_of_one_text_are_never_on_both_sides(tmp_path: Path) -> None:
    lines = (f"{'The  Film' if row % 3 else 'the film'} {row // 5},{row % 2}\n" for row in range(200))
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(lines))
    task = load(tmp_path, validation_fraction=0.3)
    train, final = ({" ".join(text.lower().split()) for text in rows.texts} for rows in (task.train, task.test))
    assert not train & final
    assert 50 <= len(task.test) <= 60


def test_phrases_of_one_sentence_are_never_on_both_sides(tmp_path: Path) -> None:
    lines = (f"a{n} b{n} c{n} d{n},0\nb{n} c{n},1\nd{n},0\n" for n in range(40))
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(lines))
    task = load(tmp_path, validation_fraction=0.25, split_unit="sentence")
    train, final = ({text.split()[-1][1:] for text in rows.texts} for rows in (task.train, task.test))
    assert not train & final
    assert len(final) == 10


def test_a_fraction_of_train_is_taken_beside_what_is_set_aside(folder: Path) -> None:
    task = load(folder, "test", train_fraction=0.5)
    assert len(task.train) == 50
    assert not set(task.train.texts) & set(task.validation.texts)
    assert len(load(folder, "validation", "test", train_fraction=0.5).train) == 50


def test_the_seed_decides_which_rows_are_set_aside(folder: Path) -> None:
    assert load(folder, seed=1) == load(folder, seed=1)
    assert load(folder, seed=1).test != load(folder, seed=2).test


def test_limits_cut_each_split_to_its_own_number(folder: Path) -> None:
    limits = {"max_train_samples": 40, "max_eval_samples": 12, "max_predict_samples": 8}
    assert [rows for rows, _, _ in roles(load(folder, "validation", "test", **limits))] == [40, 12, 8]
    # Validation rows that give the final numbers are still validation rows.
    assert [rows for rows, _, _ in roles(load(folder, "validation", **limits))] == [40, 12, 12]


def test_a_limit_takes_rows_by_chance_and_leaves_their_order(folder: Path) -> None:
    texts = load(folder, "validation", max_train_samples=20).train.texts
    numbers = [int(text.split()[-1]) for text in texts]
    assert numbers == sorted(numbers) != list(range(20))
    assert load(folder, "validation", max_train_samples=20, seed=1).train.texts != texts
    assert len(load(folder, "validation", max_train_samples=1000).train) == 100


def test_too_few_rows_to_set_any_aside_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na film,1\na story,0\n")
    with pytest.raises(RequestError, match="2 train rows are too few to set 10% aside and train on 100%"):
        load(tmp_path)


def test_a_limit_that_leaves_one_class_only_is_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match="leaves rows of one label only"):
        load(folder, "validation", max_train_samples=1)


def test_content_changes_with_any_row_of_any_role(folder: Path) -> None:
    before = load(folder, "validation", "test").content()
    assert {role: part["rows"] for role, part in before.items()} == {"train": 100, "validation": 30, "test": 20}
    (folder / "test.csv").write_text((folder / "test.csv").read_text().replace("film 3,good", "film 3,bad"))
    after = load(folder, "validation", "test").content()
    assert [role for role in before if before[role] != after[role]] == ["test"]


def test_labels_that_are_not_whole_numbers_make_it_a_regression(folder: Path) -> None:
    lines = "".join(f"film {row},{row / 4}\n" for row in range(100))
    (folder / "train.csv").write_text("text,label\n" + lines)
    task = load(folder)
    assert (task.labels.problem_type, len(task.train), len(task.test)) == ("regression", 90, 10)
    with pytest.raises(RequestError, match="leaves rows of one label only"):
        load(folder, max_train_samples=1)
    assert load(folder, problem_type="classification", validation_fraction=0.5).labels.problem_type == "classification"


def test_whole_numbers_are_a_regression_where_the_recipe_says_so(folder: Path) -> None:
    (folder / "train.csv").write_text("text,label\n" + "".join(f"film {row},{row % 5}\n" for row in range(100)))
    assert load(folder).labels.problem_type == "classification"
    task = load(folder, problem_type="regression")
    assert task.labels.problem_type == "regression"
    assert set(task.train.labels) == {0.0, 1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("unit", ["row", "sentence"])
def test_a_pair_is_never_on_both_sides_not_even_turned_round(tmp_path: Path, unit: str) -> None:
    turned = (("a{0}", "b{0} c{0}"), ("b{0} c{0}", "a{0}"), ("A{0}", "b{0}  C{0}"))
    lines = [",".join(side.format(row) for side in pair) for row in range(40) for pair in turned]
    content = "".join(f"{line},{'yes' if at % 2 else 'no'}\n" for at, line in enumerate(lines))
    (tmp_path / "train.csv").write_text("first,second,label\n" + content)
    task = load(
        tmp_path,
        text_column_name="first",
        text_pair_column_name="second",
        validation_fraction=0.25,
        split_unit=unit,
    )
    assert task.train.text_pairs is not None and task.test.text_pairs is not None
    train, final = (
        {frozenset(" ".join(text.lower().split()) for text in pair) for pair in zip(texts, pairs, strict=True)}
        for texts, pairs in ((task.train.texts, task.train.text_pairs), (task.test.texts, task.test.text_pairs))
    )
    assert not train & final
    assert len(final) == 10


def test_pairs_with_one_text_in_common_are_rows_of_their_own(tmp_path: Path) -> None:
    # As in inference data, where every premise stands in several rows.
    content = "".join(f"one premise,conclusion {row},{row % 2}\n" for row in range(40))
    (tmp_path / "train.csv").write_text("first,second,label\n" + content)
    task = load(tmp_path, text_column_name="first", text_pair_column_name="second", validation_fraction=0.25)
    assert (len(task.train), len(task.test)) == (30, 10)


def test_a_class_with_few_rows_keeps_them_and_is_named_as_untested(tmp_path: Path) -> None:
    classes = ["common"] * 180 + ["seldom"] * 20 + ["few"] * 2 + ["once"]
    lines = "".join(f"film {row},{name}\n" for row, name in enumerate(classes))
    (tmp_path / "train.csv").write_text("text,label\n" + lines)
    for seed in range(5):
        task = load(tmp_path, seed=seed)
        assert {task.labels.class_names[int(label)] for label in task.train.class_indices} == set(classes)
        assert sorted(task.test.class_indices) == [0] * 18 + [3] * 2
        assert task.labels.untested(task.test.labels) == ("few", "once")
        half = load(tmp_path, seed=seed, train_fraction=0.3, validation_fraction=0.5)
        assert {task.labels.class_names[int(label)] for label in half.train.class_indices} == set(classes)


def test_of_many_labels_the_rarest_of_each_row_is_set_aside_in_like_shares(tmp_path: Path) -> None:
    lines = (f"film {row};{row % 2};{int(row % 10 == 1)}" for row in range(200))
    (tmp_path / "train.csv").write_text("text,odd,tenth\n" + "\n".join(lines).replace(";", ",") + "\n")
    task = load(tmp_path)
    assert task.labels.class_names == ("odd", "tenth")
    assert [sum(label[at] for label in task.test.labels if isinstance(label, tuple)) for at in (0, 1)] == [10, 2]


def overlapping(folder: Path) -> None:
    """Adds to train rows 3 rows of test (one spelled otherwise), 1 of validation and 2 exact copies."""
    with (folder / "train.csv").open("a") as file:
        file.write("Test  FILM 0,good\ntest film 1,good\ntest film 2,bad\nvalidation film 4,bad\n")
        file.write("train film 0,bad\ntrain film 0,bad\ntrain film 0,good\n")


def test_rows_in_two_splits_and_exact_copies_are_counted_loudly(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(folder, "validation", "test").train and not caplog.messages
    overlapping(folder)
    task = load(folder, "validation", "test")
    assert [len(task.train), len(task.validation), len(task.test)] == [107, 30, 20]
    duplicates, validation, test = caplog.messages
    assert duplicates.startswith("train: 2 of 107 rows are exact copies of others: --drop_duplicates")
    assert validation.startswith("validation: 1 of 30 rows are train rows too (the same text): scores")
    assert test.startswith("test: 3 of 20 rows are train rows too (the same text): scores")
    assert test.endswith("; --drop_overlap leaves them out of train")
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_rows_in_two_splits_are_left_out_of_the_earlier_one(folder: Path) -> None:
    overlapping(folder)
    task = load(folder, "validation", "test", drop_overlap=True, drop_duplicates=True)
    # The same text with another label is no exact copy.
    assert roles(task) == [(101, "train", {"train"}), (30, "validation", {"validation"}), (20, "test", {"test"})]


def test_a_train_file_that_is_the_test_file_is_refused_where_overlap_is_dropped(folder: Path) -> None:
    with pytest.raises(RequestError, match="--drop_overlap leaves no train rows"):
        load(folder, test_file="train.csv", drop_overlap=True)
    with (folder / "test.csv").open("a") as file:
        file.writelines(f"train film {row},good\n" for row in range(99))
    with pytest.raises(RequestError, match="--drop_overlap leaves 1 train rows, too few to learn from"):
        load(folder, "test", drop_overlap=True)
