"""A recipe with its inputs found: what recipe.json holds, and the fingerprint that tells runs apart.

torch is not needed for any of it: whether a run was done before, or cannot be done, is known within a second.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.training.data.continued_text import ContinuedText
from src.training.data.conversation_columns import claims, read_conversations
from src.training.data.parts import Task, divide
from src.training.data.prompt_form import PromptForm
from src.training.data.rows import load_examples, read_tables
from src.training.data.tables import Table
from src.training.engine.early_stopping import EarlyStopping
from src.training.engine.settings import TrainingSettings
from src.training.environment.cores import resolve_threads
from src.training.evaluation.problem import Problem
from src.training.model.base_model import BaseModel, find_base_model, has_chat_template
from src.training.model.language_model import check_language_model
from src.training.problems.generation.problem import GenerationProblem
from src.training.problems.kinds import problem_of
from src.training.recipes.recipe import (
    FIELDS,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    Recipe,
    task_mistakes,
    with_task_defaults,
)

SCHEMA = 2
# Raised when the same settings and inputs give other weights than before. 2: the optimizer's square roots are exact.
TRAINER_VERSION = 2
_DEFAULT_MAX_LENGTH = 1024

# Settings that decide the weights. Names and places of inputs do not: their content does; and of the problem's type,
# what the labels turn out to be.
_DECIDING = (
    *("per_device_train_batch_size", "learning_rate", "weight_decay", "max_grad_norm"),
    *("lr_scheduler_type", "warmup_ratio", "num_train_epochs", "seed", "reproducible"),
    *("early_stopping_patience", "early_stopping_threshold"),
)
_DECIDING_CLASSIFIER = ("max_seq_length", "class_weights")
_DECIDING_LANGUAGE_MODEL = (
    *("max_length", "completion_only_loss", "assistant_only_loss", "max_generate_samples", "max_new_tokens"),
)
_DECIDING_LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "save_merged")
# Where they are not given they decide nothing: fingerprints of runs without them stay as they are.
_DECIDING_IF_GIVEN = ("max_steps", "gradient_accumulation_steps", "bf16")


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A recipe and everything it names.

    Attributes:
        recipe: as asked for, with the task and its defaults filled in.
        prompt_form: how a language model is asked; None of a classifier.
        document: the content of recipe.json, the same on every machine that runs the same recipe.
    """

    recipe: Recipe
    base: BaseModel
    task: Task[Any]
    problem: Problem
    prompt_form: PromptForm | None
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
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch so far are kept beside the model."""
        return self.task.selects_epoch and (self.recipe.num_train_epochs or 0) > 1

    @property
    def deciding(self) -> dict[str, Any]:
        """All that decides the weights and the numbers: settings and the content of inputs."""
        return _deciding(self.recipe, document=self.document, selects_epoch=self.task.selects_epoch)


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
    tables = read_tables(recipe, folder=folder)
    asked = recipe.task
    recipe = with_task_defaults(recipe, task=asked or _told_task(tables["train"], recipe))
    if mistakes := task_mistakes(recipe):
        raise RequestError("; ".join(mistakes))
    prompt_form = None
    problem: Problem
    if recipe.task == TEXT_CLASSIFICATION:
        task: Task[Any] = divide(*load_examples(recipe, tables), recipe)
        problem = problem_of(task.labels, task.train.labels, recipe.class_weights)
        base = _find_base_model(recipe, folder)
    else:
        base = _find_base_model(recipe, folder)
        check_language_model(base, because=_why_language_model(asked, tables["train"]))
        recipe = replace(recipe, max_length=_max_length(recipe, base))
        rows, form = read_conversations(
            tables,
            has_template=has_chat_template(base.folder),
            text_column=recipe.text_column_name,
            system_prompt=recipe.system_prompt,
            skip_bad_rows=recipe.skip_bad_rows,
        )
        task = divide(rows, ContinuedText(), recipe)
        prompt_form = PromptForm.of(task.train, form)
        problem = GenerationProblem(form=prompt_form)
    _early_stopping(recipe).check(selects_epoch=task.selects_epoch)
    document = _document(recipe, base=base, task=task, prompt_form=prompt_form, threads=threads)
    return ResolvedRun(
        recipe=recipe,
        base=base,
        task=task,
        problem=problem,
        prompt_form=prompt_form,
        threads=threads,
        document=document,
    )


def _told_task(train: Table, recipe: Recipe) -> str:
    """Returns the task that the columns of the rows tell."""
    return TEXT_GENERATION if claims(train, label=recipe.label_column_name) else TEXT_CLASSIFICATION


def _why_language_model(asked: str | None, train: Table) -> str:
    if asked is not None:
        return ""
    return f", and {train.origin} with {', '.join(train.columns)} is for one (a classifier needs --label_column_name)"


def _max_length(recipe: Recipe, base: BaseModel) -> int:
    """Returns the tokens of a row at most: as asked for, or as many as are usual and the model reads."""
    limit = base.max_tokens
    if recipe.max_length is None:
        return _DEFAULT_MAX_LENGTH if limit is None else min(_DEFAULT_MAX_LENGTH, limit)
    if limit is not None and recipe.max_length > limit:
        raise RequestError(
            f"max_length must be at most {limit} for {base.content['source']}, not {recipe.max_length}: it has no more "
            "positions"
        )
    return recipe.max_length


def _find_base_model(recipe: Recipe, folder: Path) -> BaseModel:
    return find_base_model(
        recipe.model_name_or_path,
        folder=folder,
        revision=recipe.model_revision,
        weights_sha256=recipe.model_weights_sha256,
    )


def _early_stopping(recipe: Recipe) -> EarlyStopping:
    return EarlyStopping(patience=recipe.early_stopping_patience, threshold=recipe.early_stopping_threshold)


def _document(
    recipe: Recipe, *, base: BaseModel, task: Task[Any], prompt_form: PromptForm | None, threads: int
) -> dict[str, Any]:
    """Returns the content of recipe.json. It is the same on every machine that runs the same recipe."""
    data = {**task.content(), "class_names": list(task.labels.class_names), "problem_type": task.labels.problem_type}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": dataclasses.asdict(recipe),
        "inputs": {"model": base.content, "data": data},
        "threads": threads,
    }
    if prompt_form is not None:
        document["prompt"] = prompt_form.as_json()
    deciding = _deciding(recipe, document=document, selects_epoch=task.selects_epoch)
    canonical = json.dumps(deciding, sort_keys=True, ensure_ascii=False)
    return {**document, "fingerprint": hashlib.sha256(canonical.encode()).hexdigest()}


def _deciding(recipe: Recipe, *, document: Mapping[str, Any], selects_epoch: bool) -> dict[str, Any]:
    is_classifier = recipe.task == TEXT_CLASSIFICATION
    names = [*_DECIDING, *(_DECIDING_CLASSIFIER if is_classifier else _DECIDING_LANGUAGE_MODEL)]
    names += _DECIDING_LORA if recipe.use_peft else ()
    names += (name for name in _DECIDING_IF_GIVEN if getattr(recipe, name) != FIELDS[name].default)
    deciding = {
        "trainer": TRAINER_VERSION,
        "settings": {name: getattr(recipe, name) for name in names},
        "threads": document["threads"],
        "selects_epoch": selects_epoch,
        # Its content alone: the same bits under another name or commit are the same model.
        "model": document["inputs"]["model"]["sha256"],
        "data": document["inputs"]["data"],
    }
    return deciding if is_classifier else {**deciding, "prompt": document["prompt"]}
