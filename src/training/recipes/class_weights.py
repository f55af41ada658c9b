"""Weight of each class in the loss: none, balanced, or as the recipe gives them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from src.cli.errors import RequestError

NONE, BALANCED = "none", "balanced"
_MUST = "must be none, balanced, or a number above 0 for each class, such as [1, 2.5]"


def parse_class_weights(value: Any) -> str | tuple[float, ...]:
    """Converts a recipe's value: a word, a list, or on a command line a list with commas.

    Raises:
        ValueError: with what the value must be.
    """
    if isinstance(value, str):
        word = value.strip()
        if word in (NONE, BALANCED):
            return word
        value = word.removeprefix("[").removesuffix("]").split(",")
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(_MUST)
    try:
        weights = tuple(float(weight) for weight in value if not isinstance(weight, bool))
    except (TypeError, ValueError) as error:
        raise ValueError(_MUST) from error
    # A class that weighs nothing would leave a batch of its rows without a loss.
    if len(weights) < len(value) or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(_MUST)
    return weights


def resolve_class_weights(
    setting: str | tuple[float, ...], *, labels: Sequence[int | float], class_names: Sequence[str]
) -> tuple[float, ...] | None:
    """Returns the weight of each class by index, or None if all rows weigh the same.

    Args:
        setting: the recipe's. `balanced` weighs a class by rows / (classes * rows of the class), as scikit-learn does
            (after G. King and L. Zeng, Logistic Regression in Rare Events Data, Political Analysis 9, 2001).
        labels: class indices of the rows to train on.
        class_names: names by index; none in a regression.

    Raises:
        RequestError: the weights do not match the classes.
    """
    if setting == NONE:
        return None
    if not class_names:
        raise RequestError("class_weights are for classes, but this is a regression: leave them out")
    if isinstance(setting, tuple):
        if len(setting) != len(class_names):
            raise RequestError(
                f"class_weights has {len(setting)} numbers for {len(class_names)} classes: give one for "
                f"each, in the order {', '.join(class_names[:20])}"
            )
        return setting
    counts = Counter(labels)
    absent = [name for at, name in enumerate(class_names) if not counts[at]]
    if absent:
        raise RequestError(
            f"class_weights cannot be balanced: no train row has the class {', '.join(map(repr, absent[:5]))}: "
            "add rows of it, or give the weights as numbers"
        )
    return tuple(len(labels) / (len(class_names) * counts[at]) for at in range(len(class_names)))
