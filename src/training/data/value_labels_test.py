"""Which labels are numbers to predict, and what is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.tables import Table
from src.training.data.value_labels import ValueLabels


def table(*labels: Any, names: tuple[str, ...] | None = None) -> Table:
    return Table(
        origin="my.csv", columns={"score": list(labels)}, class_names={} if names is None else {"score": names}
    )


def holds(*labels: Any, problem_type: str | None = None) -> bool:
    return ValueLabels.claims(table(*labels), "score", problem_type=problem_type)


def refusal(*labels: Any) -> str:
    with pytest.raises(RequestError) as raised:
        holds(*labels)
    return str(raised.value)


@pytest.mark.parametrize(
    "labels",
    [
        (0.5, 1.0, 2.0),
        ("0.5", "1", "-2e0"),
        (" .5", "1.", "+3"),
        (1, 2.5, 3),
        (Decimal("0.5"), Decimal("1"), Decimal("2")),
        (0.1, 0.2, 0.3, None),
        (0.1, 0.2, 0.3, math.nan),
    ],
    ids=repr,
)
def test_numbers_of_which_some_are_not_whole_are_values(labels: tuple[Any, ...]) -> None:
    assert holds(*labels)


@pytest.mark.parametrize(
    "labels",
    [
        (0.0, 1.0, 2.0),
        ("0.0", "1.0", "2.00"),
        (1, 2, 3),
        (0.0, 1.0, math.nan),
        (1.0, 2.0, math.inf),
        ("good", "bad", "nan"),
        ("1.5-beta", "2.5-beta", "3"),
        ("1,5", "2,5", "3,5"),
        (True, False, True),
        ("1_5.5", "infinity", "NaN"),
    ],
    ids=repr,
)
def test_words_and_whole_numbers_are_classes(labels: tuple[Any, ...]) -> None:
    assert not holds(*labels)


def test_the_recipe_has_the_last_word() -> None:
    assert holds(0, 1, 2, problem_type="regression")
    assert holds(*range(5000), problem_type="regression")
    assert not holds(0.5, 1.5, 2.5, problem_type="classification")


def test_a_source_that_names_its_classes_has_no_values() -> None:
    named = table(0, 1, 1, names=("one star", "two stars"))
    assert not ValueLabels.claims(named, "score", problem_type=None)
    with pytest.raises(RequestError, match=r"score holds classes \(one star, two stars\), not numbers"):
        ValueLabels.claims(named, "score", problem_type="regression")


def test_a_word_among_fractions_is_refused_with_its_row() -> None:
    message = refusal("1.5", "2.5", "n/a", "3.5")
    assert message.startswith(
        "my.csv, row 3: score is 'n/a', but in other rows a number with a fraction: correct the row"
    )
    assert message.endswith("say which with --problem_type regression or classification")


def test_two_numbers_may_be_two_classes() -> None:
    assert "score holds only 1.1 and 1.2, which may be two classes or numbers" in refusal(1.1, 1.2, 1.1)
    assert holds(1.1, 1.2, 1.3)


def test_values_are_those_that_float32_holds_whatever_they_are_stored_as() -> None:
    wanted = (0.10000000149011612, 3.0, -250.0)
    for labels in (("0.1", "3", "-2.5e2"), (0.1, 3, -250), (Decimal("0.1"), Decimal(3), Decimal(-250)), wanted):
        _, splits = ValueLabels.read({"train": table(*labels)}, "score")
        assert splits["train"].labels == wanted


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "row 2: score is empty"),
        (" ", "row 2: score is empty"),
        ("n/a", r"row 2: score is 'n/a', which is not a number such as 3.5 "),
        ("3,5", "row 2: score is '3,5', which is not a number"),
        ("nan", "row 2: score is 'nan', which is not a number"),
        (True, "row 2: score is True, which is not a number"),
        ([1.0], r"row 2: score is \[1.0\], which is not a number"),
        (math.nan, "row 2: score is nan: a label must be a finite number"),
        (-math.inf, "row 2: score is -inf: a label must be a finite number"),
        ("1e999", "row 2: score is 1e999: a label must be a finite number"),
        (3.5e38, r"row 2: score is 3.5e\+38: a label must be a finite number"),
        (10**400, "row 2: score is 10+: a label must be a finite number"),
    ],
)
def test_a_label_that_is_no_finite_number_is_refused_with_its_row(label: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        rows = table(1.5, label)
        rows.refuse(ValueLabels.faults(rows, "score"), then="correct it")
    assert "\n" not in str(raised.value)


def test_a_split_of_nothing_but_minus_one_is_hidden_where_train_is_never_below_0() -> None:
    def splits(*test: float, train: tuple[float, float]) -> set[str]:
        return set(ValueLabels.read({"train": table(*train), "test": table(*test)}, "score")[1])

    assert splits(-1.0, -1.0, train=(0.0, 5.0)) == {"train"}
    assert splits(-1.0, 0.5, train=(0.0, 5.0)) == {"train", "test"}
    assert splits(-1.0, -1.0, train=(-4.0, 4.0)) == {"train", "test"}
