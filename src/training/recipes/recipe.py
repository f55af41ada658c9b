"""A run, described completely: the fields of a recipe, and every mistake in one, told together.

Field names are those of transformers' run_classification.py where it has one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from src.cli.parser import did_you_mean
from src.training.recipes.class_weights import parse_class_weights

CLASSIFICATION, REGRESSION = "classification", "regression"

# Fields that say which rows are trained on. They are replaced together: the columns, fraction and
# revision of one dataset mean nothing for another.
DATA_SOURCE = ("dataset_name", "train_file")
DATA_FIELDS = (
    *("dataset_name", "dataset_config_name", "dataset_revision"),
    *("train_file", "validation_file", "test_file"),
    *("text_column_name", "text_pair_column_name", "label_column_name", "problem_type", "class_weights"),
    *("train_fraction", "validation_fraction", "split_unit"),
)
MODEL_FIELDS = ("model_name_or_path", "model_revision", "model_weights_sha256")


def _field(
    default: Any,
    doc: str,
    *,
    check: Callable[[Any], bool] | None = None,
    must: str = "",
    choices: tuple[str, ...] = (),
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """A recipe field with its help text and what its value must satisfy."""
    if choices:
        check, must = choices.__contains__, "must be " + " or ".join(choices)
    metadata = {"doc": doc, "check": check, "must": must, "convert": convert}
    return dataclasses.field(default=default, metadata=metadata)


def _whole(default: int | None, doc: str) -> Any:
    return _field(default, doc, check=lambda value: value > 0, must="must be a whole number above 0")


def _share(default: float | None, doc: str) -> Any:
    return _field(default, doc, check=lambda value: 0 < value <= 1, must="must be above 0 and at most 1")


def _not_negative(default: float, doc: str) -> Any:
    return _field(default, doc, check=lambda value: value >= 0, must="must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run. Two equal recipes over equal inputs give equal weights, unless `reproducible` is off."""

    description: str | None = _field(None, "what the recipe is for")
    model_name_or_path: str = _field("", "base model: a hub name, a folder, or embedded:NAME")
    model_revision: str | None = _field(None, "commit of the hub model")
    model_weights_sha256: str | None = _field(
        None, "sha256 of the weight file; has to be named for a model that has no safetensors"
    )

    dataset_name: str | None = _field(None, "hub dataset, folder saved by datasets, or embedded:NAME")
    dataset_config_name: str | None = _field(None, "configuration of the hub dataset")
    dataset_revision: str | None = _field(None, "commit of the hub dataset")
    train_file: str | None = _field(
        None, "csv, tsv, json lines or parquet file, or folder saved by datasets, with the rows to train on"
    )
    validation_file: str | None = _field(None, "rows that are scored after each epoch")
    test_file: str | None = _field(None, "rows that only the final numbers come from")
    text_column_name: str | None = _field(None, "column with the text (default: the only other column)")
    text_pair_column_name: str | None = _field(None, "column with the second text, where the rows are pairs of texts")
    label_column_name: str = _field("label", "column with the label")
    problem_type: str | None = _field(
        None,
        "classes to choose from, or a number to come near to (default: a number where the labels are not whole ones)",
        choices=(CLASSIFICATION, REGRESSION),
    )
    class_weights: str | tuple[float, ...] = _field(
        "none",
        "what a row of each class counts: none, balanced (rare classes count more), or numbers such as 1,2.5",
        convert=parse_class_weights,
    )
    train_fraction: float = _share(1.0, "share of the train rows to use")
    validation_fraction: float | None = _share(
        None, "share of the train rows set aside to score each epoch (default: 0.1 where nothing else could be scored)"
    )
    split_unit: str = _field(
        "row",
        "what stays on one side when rows are set aside: a row, or a sentence with its phrases",
        choices=("row", "sentence"),
    )
    max_train_samples: int | None = _whole(None, "at most this many rows to train on")
    max_eval_samples: int | None = _whole(None, "at most this many validation rows")
    max_predict_samples: int | None = _whole(None, "at most this many test rows")

    max_seq_length: int = _whole(128, "tokens a text is cut to")
    per_device_train_batch_size: int = _whole(16, "rows a step")
    per_device_eval_batch_size: int = _whole(64, "rows scored at once")
    learning_rate: float = _field(
        5e-5, "peak learning rate of AdamW", check=lambda value: 0 < value < 1, must="must lie between 0 and 1"
    )
    weight_decay: float = _not_negative(0.01, "AdamW's weight decay")
    max_grad_norm: float = _not_negative(1.0, "gradients are scaled down to this norm; 0: never")
    lr_scheduler_type: str = _field(
        "linear", "course of the learning rate after warm-up", choices=("linear", "cosine", "constant")
    )
    warmup_ratio: float = _field(
        0.0, "share of the steps that warm up", check=lambda value: 0 <= value < 1, must="must be 0 or more, below 1"
    )
    num_train_epochs: float = _field(
        2.0, "passes over the train rows", check=lambda value: 0 < value <= 10_000, must="must be above 0"
    )
    load_best_model_at_end: bool = _field(
        True, "keep the epoch with the best validation scores, where test rows give the final numbers"
    )
    early_stopping_patience: int | None = _whole(
        None, "end training after this many epochs without a better score (default: never)"
    )
    early_stopping_threshold: float = _not_negative(0.0, "what accuracy must gain by, and more, to count as better")
    seed: int = _field(
        42,
        "decides the new head, the order of rows and dropout",
        check=lambda value: 0 <= value < 2**32,
        must="must be a whole number from 0 to 4294967295",
    )
    reproducible: str = _field(
        "machine",
        "the same bits on this CPU model, on any x86-64 CPU with AVX2, or not at all",
        choices=("machine", "portable", "off"),
    )
    threads: int | None = _whole(None, "CPU threads; part of the result (default: every core; 2 if portable)")


FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Recipe)}
_KINDS = {"str": str, "int": int, "float": float, "bool": bool}


def merge(recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lays overrides over a recipe; another dataset or model drops all that the old one was described by."""
    merged = dict(recipe)
    for sources, block in ((DATA_SOURCE, DATA_FIELDS), (MODEL_FIELDS[:1], MODEL_FIELDS)):
        if any(overrides.get(source) is not None for source in sources):
            merged = {key: value for key, value in merged.items() if key not in block}
    return {**merged, **overrides}


def parse_fields(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Converts raw values to the fields' types. Returns the values and one phrase for each mistake."""
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, value in raw.items():
        if key not in FIELDS:
            mistakes.append(f"{key} is not a key of a recipe{did_you_mean(key, list(FIELDS))}")
            continue
        try:
            values[key] = _convert(FIELDS[key], value)
        except ValueError as error:
            mistakes.append(f"{key} {error}, not {value!r}")
    return values, mistakes


def _convert(field: dataclasses.Field[Any], value: Any) -> Any:
    """Converts one value; a ValueError says what the field must be."""
    if field.metadata["convert"] is not None:
        return field.metadata["convert"](value)
    kind_name, _, optional = str(field.type).partition(" | ")
    if value is None:
        if optional:
            return None
        raise ValueError("needs a value")
    converted = _to_kind(_KINDS[kind_name], value, must=field.metadata["must"])
    check = field.metadata["check"]
    if check is not None and not check(converted):
        raise ValueError(field.metadata["must"])
    return converted


def _to_kind(kind: type, value: Any, *, must: str) -> Any:
    if kind is bool:
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in known:
            raise ValueError("must be true or false")
        return known[str(value).lower()]
    if isinstance(value, bool | list | dict):
        raise ValueError(must or "must be a single value")
    try:
        # `1e-3` is a string in YAML 1.1, and `2.0` is a whole number to a user.
        number = float(value) if kind is not str else 0.0
        if kind is int and number != int(number):
            raise ValueError
        return kind(number) if kind is not str else str(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(must or f"must be a {'whole ' if kind is int else ''}number") from error
