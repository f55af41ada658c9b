"""Which problem labels and models pose, and the class weights that go with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from src.cli.errors import RequestError
from src.training.data.class_labels import ClassLabels
from src.training.data.multi_labels import MultiLabels
from src.training.data.value_labels import ValueLabels
from src.training.problems.classification.problem import Classification
from src.training.problems.kinds import problem_of, problem_of_config
from src.training.problems.multi_label.problem import MultiLabel
from src.training.problems.regression.problem import Regression

CLASSES, VALUES = ClassLabels(("common", "rare")), ValueLabels("stars")
# A fifth of the rows is of the rare class.
TRAIN = [int(row % 5 == 0) for row in range(100)]


def config(**settings: Any) -> Any:
    names = settings.pop("names")
    return SimpleNamespace(num_labels=len(names), id2label=dict(enumerate(names)), **{"problem_type": None, **settings})


def test_balanced_weights_are_those_of_the_examples_that_are_trained_on() -> None:
    weights = {}
    for setting in ("none", "balanced", (1.0, 3.0)):
        problem = problem_of(CLASSES, TRAIN, setting)
        assert isinstance(problem, Classification)
        weights[setting] = problem.class_weights
    assert weights == {"none": None, "balanced": (100 / (2 * 80), 100 / (2 * 20)), (1.0, 3.0): (1.0, 3.0)}
    few = np.random.default_rng(0).permutation(TRAIN)[:31]
    problem = problem_of(CLASSES, few.tolist(), "balanced")
    assert isinstance(problem, Classification) and problem.class_weights is not None
    assert sum(problem.class_weights[label] for label in few) == pytest.approx(31)


def test_values_have_no_class_weights() -> None:
    assert problem_of(VALUES, [0.5, 1.0], "none") == Regression(label_name="stars")
    with pytest.raises(RequestError, match="class_weights are for classes"):
        problem_of(VALUES, [0.5, 1.0], "balanced")


def test_labels_without_a_problem_are_a_mistake_in_the_code() -> None:
    with pytest.raises(TypeError, match="no problem is known for str"):
        problem_of("labels", [], "none")  # type: ignore[arg-type]


def test_a_model_says_by_its_config_what_it_was_made_for() -> None:
    assert problem_of_config(config(names=["a", "b"])) == Classification(class_names=("a", "b"))
    assert problem_of_config(config(names=["stars"])) == Regression(label_name="stars")
    one_class = config(names=["a"], problem_type="single_label_classification")
    assert problem_of_config(one_class) == Classification(class_names=("a",))
    many = config(names=["a", "b"], problem_type="multi_label_classification")
    assert problem_of_config(many) == MultiLabel(label_names=("a", "b"))
    with pytest.raises(RequestError, match="problem_type ranking cannot be scored"):
        problem_of_config(config(names=["a", "b"], problem_type="ranking"))


def test_many_labels_have_no_class_weights() -> None:
    labels = MultiLabels(("a", "b"))
    assert problem_of(labels, [(0.0, 1.0)], "none") == MultiLabel(label_names=("a", "b"))
    with pytest.raises(RequestError, match="class_weights are for rows with one class each"):
        problem_of(labels, [(0.0, 1.0)], "balanced")


def test_an_answer_says_how_sure_it_is() -> None:
    import torch

    logits = torch.tensor([0.0, 1.0])
    assert Classification(class_names=("a", "b")).answer(logits) == "Predicted class: b (probability 73.1%)"
    many = MultiLabel(label_names=("a", "b"))
    assert many.answer(logits) == "Predicted labels: a (50.0%), b (73.1%)"
    assert many.answer(-logits - 0.1) == "Predicted labels: none (the highest is a, 47.5%)"
