"""Every kind of problem. A new one is a folder beside this file, a kind of labels in data/, and its lines here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

from src.cli.errors import RequestError
from src.training.data.class_labels import ClassLabels
from src.training.data.labels import Labels
from src.training.data.multi_labels import MultiLabels
from src.training.data.value_labels import ValueLabels
from src.training.evaluation.problem import Problem
from src.training.problems.classification.problem import Classification
from src.training.problems.multi_label.problem import MultiLabel
from src.training.problems.regression.problem import Regression
from src.training.recipes.class_weights import NONE, resolve_class_weights


@singledispatch
def problem_of(labels: Labels, train: Sequence[Any], class_weights: str | tuple[float, ...]) -> Problem:
    """Returns the problem that labels pose.

    Args:
        labels: what the examples are labelled with.
        train: labels of the examples to train on.
        class_weights: the recipe's.

    Raises:
        RequestError: the class weights do not go with the labels.
    """
    del train, class_weights
    raise TypeError(f"no problem is known for {type(labels).__name__}: give it a line in kinds.py")


@problem_of.register
def _(labels: ClassLabels, train: Sequence[Any], class_weights: str | tuple[float, ...]) -> Problem:
    weights = resolve_class_weights(class_weights, labels=train, class_names=labels.names)
    return Classification(class_names=labels.names, class_weights=weights)


@problem_of.register
def _(labels: ValueLabels, train: Sequence[Any], class_weights: str | tuple[float, ...]) -> Problem:
    # Refuses weights: there are no classes.
    resolve_class_weights(class_weights, labels=train, class_names=())
    return Regression(label_name=labels.column)


@problem_of.register
def _(labels: MultiLabels, train: Sequence[Any], class_weights: str | tuple[float, ...]) -> Problem:
    del train
    if class_weights != NONE:
        raise RequestError("class_weights are for rows with one class each, but these have any number: leave them out")
    return MultiLabel(label_names=labels.names)


_OF_CONFIG: dict[str, Callable[[tuple[str, ...]], Problem]] = {
    Classification.config_problem_type: lambda names: Classification(class_names=names),
    MultiLabel.config_problem_type: lambda names: MultiLabel(label_names=names),
    Regression.config_problem_type: lambda names: Regression(label_name=names[0]),
}


def problem_of_config(config: Any) -> Problem:
    """Returns the problem that a model of transformers was made for.

    Args:
        config: the model's. Without a problem type, one output stands for a regression, as transformers has it.

    Raises:
        RequestError: there is no such kind of problem here.
    """
    names = tuple(config.id2label[at] for at in range(config.num_labels))
    by_outputs = Regression if config.num_labels == 1 else Classification
    problem_type = config.problem_type or by_outputs.config_problem_type
    if problem_type not in _OF_CONFIG:
        raise RequestError(
            f"models with problem_type {problem_type} cannot be scored: use one of {', '.join(_OF_CONFIG)}"
        )
    return _OF_CONFIG[problem_type](names)
