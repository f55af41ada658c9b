"""A recipe with its inputs found: what recipe.json holds, and the fingerprint that tells runs apart.

torch is not needed for any of it: whether a run was done before, or cannot be done, is known within a second.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.training.data.parts import Task, load_task
from src.training.engine.early_stopping import EarlyStopping
from src.training.engine.settings import TrainingSettings
from src.training.environment.cores import resolve_threads
from src.training.evaluation.problem import Problem
from src.training.model.base_model import BaseModel, find_base_model
from src.training.problems.kinds import problem_of
from src.training.recipes.recipe import Recipe

SCHEMA = 2
# Raised when the same settings and inputs give other weights than before. 2: the optimizer's square roots are exact.
TRAINER_VERSION = 2

# Settings that decide the weights. Names and places of inputs do not: their content does; and of the problem's type,
# what the labels turn out to be.
_DECIDING = (
    *("max_seq_length", "per_device_train_batch_size", "learning_rate", "weight_decay", "max_grad_norm"),
    *("lr_scheduler_type", "warmup_ratio", "num_train_epochs", "seed", "reproducible", "class_weights"),
    *("early_stopping_patience", "early_stopping_threshold"),
)


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A recipe and everything it names.

    Attributes:
        document: the content of recipe.json, the same on every machine that runs the same recipe.
    """

    recipe: Recipe
    base: BaseModel
    task: Task
    problem: Problem
    threads: int
    document: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of `deciding`."""
        return str(self.document["fingerprint"])

    @property
    def training_settings(self) -> TrainingSettings:
        """The numbers that training runs on."""
        names = (field.name for field in dataclasses.fields(TrainingSettings))
        return TrainingSettings(**{name: getattr(self.recipe, name) for name in names})

    @property
    def early_stopping(self) -> EarlyStopping:
        """When training ends before its last epoch."""
        return _early_stopping(self.recipe)

    @property
    def deciding(self) -> dict[str, Any]:
        """All that decides the weights and the numbers: settings and the content of inputs."""
        return _deciding(self.recipe, inputs=self.document["inputs"], task=self.task, threads=self.threads)


def resolve_run(recipe: Recipe, *, folder: Path) -> ResolvedRun:
    """Finds and checks every input of a recipe.

    Args:
        recipe: the run.
        folder: what relative paths are relative to.

    Raises:
        RequestError: an input cannot be had or is wrong.
    """
    threads = resolve_threads(recipe.threads, reproducible=recipe.reproducible)
    # Rows first: they are checked in a moment, a model may have to be downloaded.
    task = load_task(recipe, folder=folder)
    _early_stopping(recipe).check(selects_epoch=task.selects_epoch)
    problem = problem_of(task.labels, task.train.labels, recipe.class_weights)
    base = find_base_model(
        recipe.model_name_or_path,
        folder=folder,
        revision=recipe.model_revision,
        weights_sha256=recipe.model_weights_sha256,
    )
    document = _document(recipe, base=base, task=task, threads=threads)
    return ResolvedRun(recipe=recipe, base=base, task=task, problem=problem, threads=threads, document=document)


def _early_stopping(recipe: Recipe) -> EarlyStopping:
    return EarlyStopping(patience=recipe.early_stopping_patience, threshold=recipe.early_stopping_threshold)


def _document(recipe: Recipe, *, base: BaseModel, task: Task, threads: int) -> dict[str, Any]:
    """Returns the content of recipe.json. It is the same on every machine that runs the same recipe."""
    data = {**task.content(), "class_names": list(task.labels.class_names), "problem_type": task.labels.problem_type}
    inputs = {"model": base.content, "data": data}
    deciding = _deciding(recipe, inputs=inputs, task=task, threads=threads)
    canonical = json.dumps(deciding, sort_keys=True, ensure_ascii=False)
    return {
        "schema": SCHEMA,
        "recipe": dataclasses.asdict(recipe),
        "inputs": inputs,
        "threads": threads,
        "fingerprint": hashlib.sha256(canonical.encode()).hexdigest(),
    }


def _deciding(recipe: Recipe, *, inputs: dict[str, Any], task: Task, threads: int) -> dict[str, Any]:
    return {
        "trainer": TRAINER_VERSION,
        "settings": {name: getattr(recipe, name) for name in _DECIDING},
        "threads": threads,
        "selects_epoch": task.selects_epoch,
        # Its content alone: the same bits under another name or commit are the same model.
        "model": inputs["model"]["sha256"],
        "data": inputs["data"],
    }
