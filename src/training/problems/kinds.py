"""Every kind of problem, by the name that recipes have for it. A new kind is a folder beside this file and its line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from src.training.data.parts import Task
from src.training.evaluation.problem import Problem
from src.training.problems.classification.problem import Classification
from src.training.problems.regression.problem import Regression

_OF_TASK: dict[str, Callable[[Task], Problem]] = {
    Classification.problem_type: lambda task: Classification(
        class_names=task.class_names, class_weights=task.class_weights
    ),
    Regression.problem_type: lambda task: Regression(label_name=task.label_name),
}
_OF_CONFIG: dict[str, Callable[[tuple[str, ...]], Problem]] = {
    Classification.config_problem_type: lambda names: Classification(class_names=names),
    Regression.config_problem_type: lambda names: Regression(label_name=names[0]),
}


def problem_of(task: Task) -> Problem:
    """Returns the problem that the labels of a task pose."""
    return _OF_TASK[task.problem_type](task)


def problem_of_config(config: Any) -> Problem:
    """Returns the problem that a model of transformers was made for.

    Args:
        config: the model's. Without a problem type, one output stands for a regression, as transformers has it.
    """
    names = tuple(config.id2label[at] for at in range(config.num_labels))
    by_outputs = Regression if config.num_labels == 1 else Classification
    return _OF_CONFIG[config.problem_type or by_outputs.config_problem_type](names)
