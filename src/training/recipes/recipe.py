"""A run, described completely: the fields of a recipe.

Field names are those of transformers' run_classification.py where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from src.cli.parser import did_you_mean
from src.training.recipes.class_weights import parse_class_weights
from src.training.recipes.file_settings import parse_delimiter, parse_encoding
from src.training.recipes.settings import (
    fraction,
    not_negative,
    parse_names,
    parse_settings,
    positive_integer,
    setting,
    settings_of,
)

CLASSIFICATION, REGRESSION, MULTI_LABEL = "classification", "regression", "multi_label_classification"
TEXT_CLASSIFICATION, TEXT_GENERATION = "text-classification", "text-generation"

# Fields that say which rows are trained on. They are replaced together: the columns, fraction and
# revision of one dataset mean nothing for another.
DATA_SOURCE = ("dataset_name", "train_file")
DATA_FIELDS = (
    *("dataset_name", "dataset_config_name", "dataset_revision"),
    *("train_file", "validation_file", "test_file"),
    *("text_column_name", "text_column_delimiter", "text_pair_column_name", "label_column_name"),
    *("problem_type", "class_weights"),
    *("delimiter", "quoting", "encoding", "skip_bad_rows", "drop_overlap", "drop_duplicates"),
    *("train_fraction", "validation_fraction", "split_unit"),
    *("completion_only_loss", "assistant_only_loss", "system_prompt"),
)
# What a language model has no use for.
_CLASSIFIER_FIELDS = ("max_seq_length", "text_pair_column_name", "problem_type", "class_weights")
MODEL_FIELDS = ("model_name_or_path", "model_revision", "model_weights_sha256")
# The first field of each part of a recipe, and what --help calls that part.
GROUPS = {
    "description": "recipe",
    "model_name_or_path": "base model",
    "dataset_name": "data",
    "max_seq_length": "training",
    "use_peft": "LoRA",
    "max_length": "language models",
    "seed": "reproducibility",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run. Two equal recipes over equal inputs give equal weights, unless `reproducible` is off."""

    description: str | None = setting(None, "what the recipe is for")
    task: str | None = setting(
        None,
        "what is trained (default: as the columns of the rows tell)",
        choices=(TEXT_CLASSIFICATION, TEXT_GENERATION),
    )

    model_name_or_path: str = setting("", "base model: a hub name, a folder, a .gguf file, or embedded:NAME")
    model_revision: str | None = setting(None, "commit of the hub model")
    model_weights_sha256: str | None = setting(
        None, "sha256 of the weight file; required for a model without safetensors"
    )

    dataset_name: str | None = setting(None, "dataset: a hub name, a folder saved by datasets, or embedded:NAME")
    dataset_config_name: str | None = setting(None, "configuration of the hub dataset")
    dataset_revision: str | None = setting(None, "commit of the hub dataset")
    train_file: str | None = setting(
        None, "rows to train on: a csv, tsv, JSON lines or parquet file, or a folder saved by datasets"
    )
    validation_file: str | None = setting(None, "rows to score after each epoch")
    test_file: str | None = setting(None, "rows for the final scores")
    text_column_name: str | None = setting(
        None, "column with the text, or columns to join, such as title,body (default: the only other column)"
    )
    text_column_delimiter: str = setting(" ", "what stands between the texts of joined columns")
    text_pair_column_name: str | None = setting(None, "column with the second text, if the rows are pairs of texts")
    label_column_name: str = setting(
        "label", "column with the label, or columns of 0 and 1, one a label, such as late,rude"
    )
    problem_type: str | None = setting(
        None,
        "what a label is: a class, a number to predict, or any number of classes (default: as the labels tell: "
        "regression if some are not whole numbers, multi-label if they are lists or columns of 0 and 1)",
        choices=(CLASSIFICATION, REGRESSION, MULTI_LABEL),
    )
    class_weights: str | tuple[float, ...] = setting(
        "none",
        "weight of each class in the loss: none, balanced (rare classes weigh more), or numbers such as 1,2.5",
        convert=parse_class_weights,
    )
    delimiter: str | None = setting(
        None,
        "what parts the values of a csv, tsv or txt file: a character, or tab (default: found out)",
        convert=parse_delimiter,
    )
    quoting: str | None = setting(
        None,
        "whether values of such a file may be quoted (minimal) or quotes are characters (none) (default: found out)",
        choices=("minimal", "none"),
    )
    encoding: str | None = setting(
        None,
        "encoding of text files, such as cp1252 or gb18030 (default: UTF-8, or UTF-16 where it shows)",
        convert=parse_encoding,
    )
    skip_bad_rows: bool = setting(False, "leave out rows that cannot be used, with a count, in place of a refusal")
    drop_overlap: bool = setting(False, "leave out train rows that are validation or test rows too")
    drop_duplicates: bool = setting(False, "leave out exact copies of other rows of the same split")
    train_fraction: float = fraction(1.0, "fraction of the train rows to use")
    validation_fraction: float | None = fraction(
        None, "fraction of the train rows to set aside for validation (default: 0.1 if nothing else can be scored)"
    )
    split_unit: str = setting(
        "row",
        "unit kept together when splitting: a row, or a sentence with its phrases",
        choices=("row", "sentence"),
    )
    max_train_samples: int | None = positive_integer(None, "maximum number of train rows")
    max_eval_samples: int | None = positive_integer(None, "maximum number of validation rows")
    max_predict_samples: int | None = positive_integer(None, "maximum number of test rows")

    max_seq_length: int = positive_integer(128, "maximum tokens of a text; longer ones are truncated")
    per_device_train_batch_size: int = positive_integer(16, "rows per training step")
    per_device_eval_batch_size: int = positive_integer(64, "rows per batch when scoring")
    gradient_accumulation_steps: int = positive_integer(
        1, "batches per training step: as many rows a step as one batch of them all, in the memory of one"
    )
    learning_rate: float | None = setting(
        None,
        "peak learning rate of AdamW (default: 5e-5; of a language model 5e-4 with LoRA, 2e-5 without)",
        check=lambda value: 0 < value < 1,
        must="must lie between 0 and 1",
    )
    weight_decay: float = not_negative(0.01, "weight decay of AdamW")
    max_grad_norm: float = not_negative(1.0, "maximum gradient norm; 0 disables clipping")
    lr_scheduler_type: str = setting(
        "linear", "learning-rate schedule after warm-up", choices=("linear", "cosine", "constant")
    )
    warmup_ratio: float = setting(
        0.0,
        "fraction of steps used for warm-up",
        check=lambda value: 0 <= value < 1,
        must="must be 0 or more, below 1",
    )
    num_train_epochs: float | None = setting(
        None,
        "passes over the train rows (default: 2; of a language model 1)",
        check=lambda value: 0 < value <= 10_000,
        must="must be above 0",
    )
    max_steps: int | None = positive_integer(None, "training steps, in place of num_train_epochs")
    load_best_model_at_end: bool = setting(
        True, "keep the epoch with the best validation score, if there are test rows for the final scores"
    )
    early_stopping_patience: int | None = positive_integer(
        None, "stop training after this many epochs without a better validation score (default: never)"
    )
    early_stopping_threshold: float = not_negative(
        0.0, "gain in the validation score that an epoch must exceed to count as better"
    )

    use_peft: bool | None = setting(
        None, "train low-rank adapters (LoRA) in place of all weights (default: true for a language model)"
    )
    lora_r: int = positive_integer(8, "rank of the adapters")
    lora_alpha: int = positive_integer(16, "the adapters' product is scaled by lora_alpha / lora_r")
    lora_dropout: float = setting(
        0.0, "dropout of the adapters' input", check=lambda value: 0 <= value < 1, must="must be 0 or more, below 1"
    )
    lora_target_modules: tuple[str, ...] = setting(
        ("all-linear",), "modules that get an adapter: names such as q_proj v_proj, or all-linear", convert=parse_names
    )
    save_merged: bool = setting(True, "save the weights with the adapter merged into them, beside the adapter")
    bf16: bool = setting(
        False,
        "train with products in bfloat16 where weights are frozen (a language model with LoRA; AMX or AVX512_BF16)",
    )

    max_length: int | None = positive_integer(
        None, "maximum tokens of a row; longer ones are truncated (default: 1024, or as many as the model reads)"
    )
    completion_only_loss: bool | None = setting(
        None, "learn completions alone, not prompts (default: true where rows have both)"
    )
    assistant_only_loss: bool | None = setting(
        None, "learn the assistant's turns alone (default: true where rows are messages)"
    )
    system_prompt: str | None = setting(None, "system turn for rows of messages that have none")
    max_generate_samples: int = positive_integer(
        100, "maximum number of test rows that the model answers for the scores"
    )
    max_new_tokens: int | None = positive_integer(
        None, "maximum tokens of such an answer (default: those of the longest reference, at most 256)"
    )

    seed: int = setting(
        42,
        "seed of the new head, the order of rows and dropout",
        check=lambda value: 0 <= value < 2**32,
        must="must be a whole number from 0 to 4294967295",
    )
    reproducible: str = setting(
        "machine",
        "same bits on this CPU model (machine), on any x86-64 CPU with AVX2 (portable), or not guaranteed (off)",
        choices=("machine", "portable", "off"),
    )
    threads: int | None = positive_integer(
        None, "CPU threads; they affect the bits (default: every core; 2 if portable)"
    )


FIELDS = settings_of(Recipe)


def task_mistakes(recipe: Recipe) -> list[str]:
    """Returns one phrase for each field that is not for the recipe's task."""
    if recipe.bf16 and recipe.task == TEXT_CLASSIFICATION:
        return ["bf16 is for text-generation: classifiers train in float32, leave it out"]
    if recipe.task != TEXT_GENERATION:
        return []
    trains_all = recipe.bf16 and recipe.use_peft is False
    return ["bf16 needs use_peft: without it no weight is frozen"] * trains_all + [
        f"{name} is for text-classification{', use max_length' if name == 'max_seq_length' else ''}"
        for name in _CLASSIFIER_FIELDS
        if getattr(recipe, name) != FIELDS[name].default
    ]


def with_task_defaults(recipe: Recipe, *, task: str) -> Recipe:
    """Returns a recipe whose task is known, with the defaults that depend on it filled in."""
    generates = task == TEXT_GENERATION
    use_peft = generates if recipe.use_peft is None else recipe.use_peft
    rates = {(False, False): 5e-5, (False, True): 5e-4, (True, True): 5e-4, (True, False): 2e-5}
    rate, epochs = recipe.learning_rate, recipe.num_train_epochs
    return replace(
        recipe,
        task=task,
        use_peft=use_peft,
        learning_rate=rates[generates, use_peft] if rate is None else rate,
        num_train_epochs=(1.0 if generates else 2.0) if epochs is None else epochs,
    )


def merge(recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lays overrides over a recipe; another dataset or model drops all that the old one was described by."""
    merged = dict(recipe)
    for sources, block in ((DATA_SOURCE, DATA_FIELDS), (MODEL_FIELDS[:1], MODEL_FIELDS)):
        if any(overrides.get(source) is not None for source in sources):
            merged = {key: value for key, value in merged.items() if key not in block}
    return {**merged, **overrides}


def parse_fields(raw: Mapping[str, Any], *, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """Converts raw values to the fields' types. Returns the values and one phrase for each mistake.

    Args:
        raw: values by name, as YAML or a command line gives them.
        prefix: of the names in messages, such as `--`.
    """
    unknown = [f"{key} is not a key of a recipe{did_you_mean(key, FIELDS)}" for key in raw if key not in FIELDS]
    known = {key: value for key, value in raw.items() if key in FIELDS}
    values, mistakes = parse_settings(known, FIELDS, prefix=prefix)
    return values, unknown + mistakes
