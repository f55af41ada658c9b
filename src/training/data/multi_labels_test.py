"""Lists of labels, in every way that files hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.multi_labels import MultiLabels
from src.training.data.rows import load_examples, read_tables
from src.training.data.tables import Table
from src.training.recipes.recipe import Recipe

WANTED = ((1.0, 0.0), (1.0, 1.0), (0.0, 0.0))


def table(*labels: Any, names: tuple[str, ...] | None = None, origin: str = "my.csv") -> Table:
    return Table(origin=origin, columns={"tags": list(labels)}, class_names={} if names is None else {"tags": names})


def read(*labels: Any, names: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], Any]:
    assert MultiLabels.claims(table(*labels, names=names), "tags", problem_type=None)
    found, splits = MultiLabels.read({"train": table(*labels, names=names)}, "tags")
    return found.names, splits["train"].labels


def refusal(*labels: Any, problem_type: str | None = None) -> str:
    with pytest.raises(RequestError) as raised:
        if MultiLabels.claims(table(*labels), "tags", problem_type=problem_type):
            rows = table(*labels)
            MultiLabels.read({"train": rows.refuse(MultiLabels.faults(rows, "tags"), then="correct it")}, "tags")
    return str(raised.value)


@pytest.mark.parametrize(
    "labels",
    [
        (["late"], ["late", "rude"], []),
        (("late",), {"rude", "late"}, set()),
        (["late", "late "], ["rude", "late"], []),
        ("['late']", "['late', 'rude']", "[]"),
        ('["late"]', '["late","rude"]', "[]"),
        ("{'late'}", "{'rude', 'late'}", "set()"),
        ([b"late"], [b"late", b"rude"], []),
    ],
    ids=repr,
)
def test_lists_are_told_however_they_are_written(labels: tuple[Any, ...]) -> None:
    assert read(*labels) == (("late", "rude"), WANTED)


def test_numbers_in_lists_are_ids_and_as_many_zeros_and_ones_are_places() -> None:
    assert read([3], [3, 10.0], []) == (("3", "10"), WANTED)
    assert read([1, 0], [1, 1], [0, 0]) == (("LABEL_0", "LABEL_1"), WANTED)
    assert read([1.0, 0.0], ["1", "True"], [False, False]) == (("LABEL_0", "LABEL_1"), WANTED)
    assert read("[1, 0]", "[1, 1]", "[0, 0]") == (("LABEL_0", "LABEL_1"), WANTED)
    # A set of ids never holds one twice, and is seldom as long as the others.
    assert read([1], [0, 1], [])[0] == ("0", "1")


def test_names_of_the_source_stay_in_its_order() -> None:
    assert read([0], [1, 0], [], names=("late", "rude")) == (("late", "rude"), WANTED)
    faults = MultiLabels.faults(table([0], [7], [1, "x"], names=("late", "rude")), "tags")
    assert faults == {
        1: "tags holds the label 7, which has no name: there are late, rude",
        2: "tags holds the label 'x', which has no name: there are late, rude",
    }


@pytest.mark.parametrize("sign", ["|", ";", ", "])
def test_names_in_one_cell_are_lists_where_the_recipe_says_so(sign: str) -> None:
    labels = ("late", f"late{sign}rude", "[]")
    assert not MultiLabels.claims(table(*labels), "tags", problem_type=None)
    assert MultiLabels.claims(table(*labels), "tags", problem_type="multi_label_classification")
    found, splits = MultiLabels.read({"train": table(*labels)}, "tags")
    assert (found.names, splits["train"].labels) == (("late", "rude"), WANTED)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((["a"], None, ["b"]), "my.csv, row 2: tags is empty (write [] for a row without labels)"),
        ((["a"], ["b", ""]), "row 2: tags holds a label without a name"),
        ((["a"], [["b"]]), "row 2: tags is [['b']]: write the labels as a list of names"),
        ((["a"], [[]]), "row 2: tags is [[]]: write the labels"),
        ((["a"], [{"b": 1}]), "row 2: tags is [{'b': 1}]: write the labels"),
        (("[a b]", "[b]"), "row 1: tags is '[a b]', which is no list of labels"),
        ((["neg"], ["NEG", "pos"]), "tags is 'NEG' in some rows and 'neg' in others"),
        ((["a"], ["a"]), "tags holds the same labels in every row (a)"),
        (([], []), "tags holds the same labels in every row (none)"),
    ],
)
def test_what_is_no_list_of_labels_is_refused_with_its_row(labels: tuple[Any, ...], message: str) -> None:
    assert message in refusal(*labels)


def test_lists_are_not_the_classes_or_values_that_a_recipe_asks_for() -> None:
    for problem_type in ("classification", "regression"):
        assert "tags holds lists of labels: leave out --problem_type" in refusal(["a"], [], problem_type=problem_type)


def test_a_label_of_other_rows_that_no_train_row_has_is_refused() -> None:
    tables = {"train": table(["a"], ["b"]), "test": table(["A", "c"], origin="t.csv")}
    with pytest.raises(RequestError, match=r"t.csv has labels that no train row has: 'A', 'c'.*spell 'A' as 'a'"):
        MultiLabels.read(tables, "tags")
    tables = {"train": table([0, 1], [1, 1]), "test": table([0, 1, 1], origin="t.csv")}
    with pytest.raises(RequestError, match="t.csv, row 1: tags must hold 2 zeros and ones"):
        MultiLabels.read(tables, "tags")


def test_a_models_labels_are_found_in_a_file() -> None:
    labels = MultiLabels(("late", "rude"))
    for written in (["late"], "['late']", [1, 0], "late"):
        assert labels.parse(written) == (1.0, 0.0)
    assert labels.parse(["other"]) is None
    assert labels.parse(None) is None


def test_the_hash_is_of_names_in_no_order() -> None:
    assert MultiLabels(("a", "b")).text((1.0, 0.0)) == MultiLabels(("b", "a")).text((0.0, 1.0))
    assert MultiLabels(("a", "b")).text((1.0, 1.0)) != MultiLabels(("a, b",)).text((1.0,))


def load(folder: Path, content: str, **fields: Any) -> tuple[tuple[str, ...], Any, Any]:
    (folder / "rows.csv").write_text(content)
    recipe = Recipe(model_name_or_path="tiny", train_file="rows.csv", **fields)
    splits, labels = load_examples(recipe, read_tables(recipe, folder=folder))
    return labels.class_names, splits["train"].labels, splits["train"].texts


ONE_HOT = "id,comment,toxic,rude\n7,a b,1,0\n8,c d,1.0,TRUE\n9,e f,0,False\n"


def test_columns_of_zeros_and_ones_are_labels_where_there_is_no_label_column(tmp_path: Path) -> None:
    assert load(tmp_path, ONE_HOT) == (("toxic", "rude"), WANTED, ("a b", "c d", "e f"))
    named = load(tmp_path, ONE_HOT, label_column_name="rude, toxic")
    assert named[:2] == (("rude", "toxic"), tuple(label[::-1] for label in WANTED))


def test_a_wrong_column_of_labels_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"rows.csv, line 3: rude is '2', not 0 or 1, as a column of labels must be"):
        load(tmp_path, ONE_HOT.replace("TRUE", "2"), label_column_name="toxic,rude")
    with pytest.raises(RequestError, match=r"has no column 'lost' for its labels: it has id, comment, toxic, rude"):
        load(tmp_path, ONE_HOT, label_column_name="toxic,lost")
    # One alone may be anything, and so may columns beside a label.
    with pytest.raises(RequestError, match="no column 'label'"):
        load(tmp_path, ONE_HOT.replace("TRUE", "2"))
    assert load(tmp_path, ONE_HOT.replace("id,", "label,"))[0] == ("7", "8", "9")


def test_columns_of_text_are_joined(tmp_path: Path) -> None:
    content = "title,body,label\nA film,is good,1\n,is bad,0\n"
    assert load(tmp_path, content, text_column_name="title,body")[2] == ("A film is good", "is bad")
    joined = load(tmp_path, content, text_column_name="body, title", text_column_delimiter=" | ")
    assert joined[2] == ("is good | A film", "is bad")
    with pytest.raises(RequestError, match="rows.csv has no column 'head' to join: it has title, body, label"):
        load(tmp_path, content, text_column_name="head,body")
