"""Which rows train, which are scored after each epoch, and which give the final numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from src.cli.errors import RequestError
from src.training.data.rows import Examples, load_rows
from src.training.data.splits import row_groups, sentence_groups, set_aside
from src.training.recipes.class_weights import resolve_class_weights
from src.training.recipes.recipe import CLASSIFICATION, REGRESSION, Recipe

_DEFAULT_VALIDATION_FRACTION = 0.1


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that is learnt from and measured on.

    Attributes:
        class_names: by index; none in a regression.
        class_weights: what a row of each class counts in the loss, by index; None: all the same.
        train: rows to learn from.
        progress: rows scored after each epoch.
        final: rows that took no part in training or in choosing the model.
        chooses: whether `progress` may choose the epoch that is kept: it may not where it is `final`.
    """

    class_names: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    selects_epoch: bool
    class_weights: tuple[float, ...] | None = None

    @property
    def problem_type(self) -> str:
        """Classes to choose from, or values to come near to."""
        return CLASSIFICATION if self.class_names else REGRESSION

    def labels_in_words(self) -> tuple[str, ...]:
        """What is to be learnt, line by line."""
        if not self.class_names:
            labels = self.train.labels
            return (
                f"Labels: numbers from {min(labels):g} to {max(labels):g}, to come near to (a regression; "
                "--problem_type classification would make classes of them)",
            )
        classes = f"Classes: {', '.join(self.class_names[:20])}"
        if self.class_weights is None:
            return (classes,)
        weights = (f"{name} {weight:.4g}" for name, weight in zip(self.class_names, self.class_weights, strict=True))
        return classes, f"Class weights: {', '.join(list(weights)[:20])}"

    def content(self) -> dict[str, dict[str, Any]]:
        """Row counts and hashes by role, for recipe.json."""
        return {
            role: {"split": rows.split, "rows": len(rows), "sha256": rows.sha256(self.class_names)}
            for role, rows in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }


def load_task(recipe: Recipe, *, folder: Path) -> Task:
    """Reads the rows that a recipe names and gives each its part.

    Args:
        recipe: the run.
        folder: what relative paths are relative to.

    Raises:
        RequestError: the rows cannot be had, or cannot be learnt from.
    """
    splits, class_names = load_rows(recipe, folder=folder)
    task = _limit(_assign(splits, class_names, recipe), recipe)
    if len(set(task.train.labels)) < 2:
        what = "class" if class_names else "label"
        raise RequestError(
            f"--max_train_samples {recipe.max_train_samples} leaves rows of one {what} only: raise it, or change --seed"
        )
    weights = resolve_class_weights(recipe.class_weights, labels=task.train.labels, class_names=class_names)
    return replace(task, class_weights=weights)


def _assign(splits: dict[str, Examples], class_names: tuple[str, ...], recipe: Recipe) -> Task:
    """Decides which rows train, which are scored after each epoch, and which give the final numbers.

    Where only validation rows are given they give the final numbers, and so cannot choose the epoch;
    `validation_fraction` then sets train rows aside to choose by.
    """
    test = splits.get("test") or splits.get("validation")
    validation = splits.get("validation") if "test" in splits else None
    fraction = recipe.validation_fraction
    if fraction is None and validation is None and (test is None or "test" in splits):
        fraction = _DEFAULT_VALIDATION_FRACTION
    train, carved = _carve(splits["train"], recipe, fraction=0.0 if validation is not None else fraction or 0.0)
    if test is None:
        test = carved
    elif validation is None and len(carved):
        validation = carved
    selects_epoch = validation is not None and recipe.load_best_model_at_end
    return Task(
        class_names=class_names,
        train=train,
        validation=test if validation is None else validation,
        test=test,
        selects_epoch=selects_epoch,
    )


def _carve(rows: Examples, recipe: Recipe, *, fraction: float) -> tuple[Examples, Examples]:
    """Returns the rows to train on and the rows set aside, of which there may be none."""
    if fraction == 0.0 and recipe.train_fraction == 1.0:
        return rows, rows.select([])
    groups = (sentence_groups if recipe.split_unit == "sentence" else row_groups)(rows.whole_texts)
    aside = max(1, round(fraction * len(rows))) if fraction else 0
    wanted = min(int(recipe.train_fraction * len(rows)), len(rows) - aside)
    set_apart, train = set_aside(groups, sizes=[aside, wanted], seed=recipe.seed)
    if not len(train) or len({rows.labels[row] for row in train}) < 2 or (aside and not len(set_apart)):
        raise RequestError(
            f"{len(rows)} train rows are too few to set {fraction:.0%} aside and train on {recipe.train_fraction:.0%}: "
            "give more rows, or a --validation_file"
        )
    return rows.select(train), rows.select(set_apart, split="validation")


def _limit(task: Task, recipe: Recipe) -> Task:
    """Cuts the splits to the recipe's numbers of samples, chosen by its seed."""

    def cut(rows: Examples, most: int | None) -> Examples:
        if most is None or len(rows) <= most:
            return rows
        return rows.select(np.sort(np.random.default_rng(recipe.seed).permutation(len(rows))[:most]))

    final_most = recipe.max_predict_samples if task.test.split == "test" else recipe.max_eval_samples
    return replace(
        task,
        train=cut(task.train, recipe.max_train_samples),
        validation=cut(task.validation, recipe.max_eval_samples),
        test=cut(task.test, final_most),
    )
