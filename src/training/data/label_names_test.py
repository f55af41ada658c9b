"""What is one class however it is spelt, and what is asked about."""

from __future__ import annotations

from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.class_labels import ClassLabels
from src.training.data.label_names import label_name
from src.training.data.tables import Table


def table(*labels: Any, origin: str = "my.csv") -> Table:
    return Table(origin=origin, columns={"label": list(labels)}, class_names={})


def refusal(*labels: Any) -> str:
    with pytest.raises(RequestError) as raised:
        ClassLabels.claims(table(*labels), "label", problem_type=None)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("0", [0, 0.0, "0", "0.0", "0.", " 0 ", -0.0, "-0.0"]),
        ("12", [12, 12.0, "12", "12.00"]),
        ("neg", ["neg", "neg ", "\ufeffneg", "neg\u200b", "\u00a0neg\t", b"neg", "b'neg'", 'b"neg"']),
        ("caf\u00e9", ["caf\u00e9", "cafe\u0301", "caf\u00e9".encode()]),
        ("True", [True, "True"]),
        ("b'x", ["b'x"]),
        ("1.5", [1.5, "1.5"]),
        ("", [None, float("nan"), "", "  ", "\u200b"]),
    ],
)
def test_one_meaning_has_one_name(name: str, spellings: list[Any]) -> None:
    assert {label_name(spelling) for spelling in spellings} == {name}


@pytest.mark.parametrize(
    ("labels", "both"),
    [
        (("neg", "NEG", "pos"), ("'NEG'", "'neg'")),
        (("very good", "very  good"), ("'very good'", "'very  good'")),
        (("no\u200bgo", "nogo"), ("'no\\u200bgo'", "'nogo'")),
        (("1", "01", "2"), ("'01'", "'1'")),
        (("\uff4eeg", "neg"), ("'neg'", "'\uff4eeg'")),
        ((True, 1, False, 0), ("'False'", "'1'")),
    ],
)
def test_near_twins_are_asked_about_with_both_names(labels: tuple[str, ...], both: tuple[str, str]) -> None:
    message = refusal(*labels)
    assert message.startswith("my.csv: label is ")
    assert all(name in message for name in both)
    # And that is how to answer.
    assert "--problem_type classification" in message
    assert ClassLabels.claims(table(*labels), "label", problem_type="classification")


@pytest.mark.parametrize(
    ("labels", "named", "point"),
    [
        (("0,0", "1,1", "2"), "row 1: label is '0,0'", "(0.0)"),
        (("10", "50%", "99.5 %"), "row 2: label is '50%'", "(50)"),
        (("", "-3,5"), "row 2: label is '-3,5'", "(-3.5)"),
    ],
)
def test_numbers_with_a_comma_or_a_percent_sign_are_asked_about(
    labels: tuple[str, ...], named: str, point: str
) -> None:
    message = refusal(*labels)
    assert named in message and point in message
    assert "--problem_type classification" in message
    assert ClassLabels.claims(table(*labels), "label", problem_type="classification")


def test_words_with_commas_and_signs_are_classes() -> None:
    assert ClassLabels.claims(table("food, drink", "50% off", "1,5"), "label", problem_type=None)


def test_true_and_false_are_one_class_each_however_they_are_written() -> None:
    tables = {"train": table(True, False, "TRUE"), "validation": table("true", "false", origin="v.csv")}
    assert ClassLabels.claims(tables["train"], "label", problem_type=None)
    labels, splits = ClassLabels.read(tables, "label")
    assert labels.names == ("False", "TRUE")
    assert (splits["train"].labels, splits["validation"].labels) == ((1, 0, 1), (1, 0))
    # As they stand where they stand alike: such as beside "half-true".
    assert ClassLabels.read({"train": table("true", "false", "half-true")}, "label")[0].names[-1] == "true"


def test_ids_are_one_class_as_text_and_as_numbers() -> None:
    tables = {"train": table("0.0", "1.0"), "validation": table("0", 1, origin="v.csv")}
    labels, splits = ClassLabels.read(tables, "label")
    assert (labels.names, splits["validation"].labels) == (("0", "1"), (0, 1))


def test_a_twin_in_other_rows_is_named_with_the_class_it_may_be() -> None:
    tables = {"train": table("neg", "pos"), "validation": table("NEG", origin="v.csv")}
    with pytest.raises(RequestError, match="labels that no train row has: 'NEG'.*spell 'NEG' as 'neg' if they are one"):
        ClassLabels.read(tables, "label")
