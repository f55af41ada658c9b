"""Class weights as people write them, as scikit-learn balances them, and every refusal."""

from __future__ import annotations

from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.recipes.class_weights import parse_class_weights, resolve_class_weights

NAMES = ("bad", "fine", "good")
# Six rows, one, and three.
LABELS = (0, 0, 0, 1, 2, 2, 0, 0, 2, 0)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("none", "none"),
        (" balanced ", "balanced"),
        ([1, 2.5], (1.0, 2.5)),
        ((1, "2.5"), (1.0, 2.5)),
        ("1,2.5", (1.0, 2.5)),
        ("[1, 2.5]", (1.0, 2.5)),
        ("3", (3.0,)),
    ],
)
def test_values_are_taken_as_people_write_them(value: Any, wanted: Any) -> None:
    assert parse_class_weights(value) == wanted


@pytest.mark.parametrize(
    "value",
    ["balance", "", "1,-2", "1,0", "1,nan", "1,inf", "1,,2", [], [True, 2], ["a"], [[1]], {"a": 1}, 3, True, None],
    ids=repr,
)
def test_anything_else_is_refused_with_what_it_must_be(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be none, balanced, or a number above 0 for each class"):
        parse_class_weights(value)


def test_balanced_is_what_scikit_learn_makes_of_it() -> None:
    # compute_class_weight("balanced", classes=[0, 1, 2], y=LABELS) of scikit-learn: n / (k * bincount).
    weights = resolve_class_weights("balanced", labels=LABELS, class_names=NAMES)
    assert weights == pytest.approx((10 / 18, 10 / 3, 10 / 9))
    assert weights is not None
    assert sum(weights[label] for label in LABELS) == pytest.approx(len(LABELS))


def test_without_weights_there_are_none() -> None:
    assert resolve_class_weights("none", labels=LABELS, class_names=NAMES) is None
    assert resolve_class_weights("none", labels=(0.5, 1.5), class_names=()) is None


def test_given_weights_are_taken_as_they_are() -> None:
    assert resolve_class_weights((1.0, 2.0, 3.0), labels=LABELS, class_names=NAMES) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("setting", "labels", "names", "message"),
    [
        ((1.0, 2.0), LABELS, NAMES, "class_weights has 2 numbers for 3 classes: .* order bad, fine, good"),
        ("balanced", (0, 2, 2), NAMES, "no train row has the class 'fine'"),
        ("balanced", (0.5, 1.5), (), "class_weights are for classes, but this is a regression: leave them out"),
        ((1.0,), (0.5, 1.5), (), "class_weights are for classes, but this is a regression: leave them out"),
    ],
)
def test_a_mismatch_is_one_sentence(setting: Any, labels: Any, names: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        resolve_class_weights(setting, labels=labels, class_names=names)
    assert "\n" not in str(raised.value)
