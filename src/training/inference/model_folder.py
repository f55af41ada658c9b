"""The folder of a trained model, read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.disk.json_files import read_json
from src.training.model.architectures import is_language_model
from src.training.model.lora import has_adapter_alone
from src.training.model.max_tokens import max_tokens
from src.training.model.model_files import has_vocabulary
from src.training.model.pretrained import refuse_adapter_alone, refuse_custom_code

_HEAD = "ForSequenceClassification"
# Of a model trained elsewhere that nothing limits.
_DEFAULT_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A classifier on disk.

    Attributes:
        folder: its files, as transformers writes them.
        class_names: names by index, as the scores are ordered.
        max_seq_length: that of its training, or, without a recipe.json, as many tokens as it can read.
        fingerprint: of the recipe; None for a model trained elsewhere.
        weight_bytes: size of its weights.
        text_pair_column: the column with the second text of its pairs; None: it was trained on single texts, or
            that is unknown.
        is_regression: whether its one output is a number.
        is_classifier: whether its outputs compete for one class. Otherwise it has one output, or independent ones.
        is_multi_label: whether its outputs are the probabilities of labels, of which a text has any number.
        text_column: named in its training; None: it was the only other one, or that is unknown.
        text_column_delimiter: between the texts of joined columns.
        label_column: of its training.
    """

    folder: Path
    class_names: tuple[str, ...]
    max_seq_length: int
    fingerprint: str | None
    weight_bytes: int
    text_pair_column: str | None
    is_regression: bool
    is_classifier: bool
    is_multi_label: bool
    text_column: str | None = None
    text_column_delimiter: str = " "
    label_column: str = "label"


def find_trained_model(folder: Path, *, max_seq_length: int | None = None) -> TrainedModel:
    """Reads the description of the model in a folder.

    Args:
        folder: of the model.
        max_seq_length: tokens to truncate texts to, in place of those of the training.

    Raises:
        RequestError: there is no trained classifier in it, it needs code of its own, or reads fewer tokens than
            max_seq_length.
    """
    check_folder(folder)
    config = read_object(folder / "config.json")
    refuse_custom_code(folder)
    if is_language_model(config.get("architectures") or ()):
        raise RequestError(f"{folder} holds a language model, not a classifier: generate answers prompts with it")
    check_files(folder, weights=not has_adapter_alone(folder))
    if not any(str(name).endswith(_HEAD) for name in config.get("architectures") or ()):
        raise RequestError(
            f"{folder} has a model without a classification head ({_words(config.get('architectures'))}): "
            "train it first, with --model_name_or_path"
        )
    recipe = read_object(folder / "recipe.json") if (folder / "recipe.json").is_file() else {}
    limit = max_tokens(config)
    if max_seq_length is not None and limit is not None and max_seq_length > limit:
        raise RequestError(f"--max_seq_length must be at most {limit} for {folder}, not {max_seq_length}")
    if max_seq_length is None:
        limits = [number for number in (limit, _tokenizer_max_tokens(folder)) if number is not None]
        max_seq_length = recipe.get("recipe", {}).get("max_seq_length") or min(limits, default=_DEFAULT_TOKENS)
    class_names = _class_names(config)
    return TrainedModel(
        folder=folder,
        class_names=class_names,
        max_seq_length=max_seq_length,
        fingerprint=recipe.get("fingerprint"),
        weight_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        text_pair_column=recipe.get("recipe", {}).get("text_pair_column_name"),
        text_column=recipe.get("recipe", {}).get("text_column_name"),
        text_column_delimiter=recipe.get("recipe", {}).get("text_column_delimiter", " "),
        label_column=recipe.get("recipe", {}).get("label_column_name") or "label",
        is_regression=len(class_names) == 1 and config.get("problem_type") == "regression",
        is_classifier=len(class_names) > 1
        and config.get("problem_type") not in ("regression", "multi_label_classification"),
        is_multi_label=config.get("problem_type") == "multi_label_classification",
    )


def check_folder(folder: Path) -> None:
    """Refuses what is no folder of a model.

    Raises:
        RequestError: it does not exist, is a file, holds an adapter alone, or has no config.json.
    """
    if folder.is_file():
        raise RequestError(f"--model {folder} is a file: name the folder of a trained model")
    if not folder.is_dir():
        raise RequestError(f"--model {folder} does not exist: name the folder of a trained model")
    refuse_adapter_alone(folder, name=f"--model {folder}")
    _require("config.json", folder, found=(folder / "config.json").is_file())


def check_files(folder: Path, *, weights: bool = True) -> None:
    """Refuses a model's folder that lacks files.

    Args:
        folder: of the model.
        weights: whether there have to be weights beside the tokenizer.

    Raises:
        RequestError: something is missing.
    """
    _require("*.safetensors", folder, found=not weights or any(folder.glob("*.safetensors")))
    _require("tokenizer files", folder, found=(folder / "tokenizer_config.json").is_file() or has_vocabulary(folder))


def _require(what: str, folder: Path, *, found: bool) -> None:
    if not found:
        raise RequestError(f"--model {folder} has no {what}: name the folder of a trained model")


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RequestError: it cannot be read, or is something else.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read ({error}): the model is damaged, train it again") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path} is not a JSON object: the model is damaged, train it again")
    return content


def _class_names(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if names is None:
        # transformers leaves the names out where they are its own.
        return tuple(f"LABEL_{at}" for at in range(config.get("num_labels") or 2))
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _tokenizer_max_tokens(folder: Path) -> int | None:
    """Returns how many tokens the tokenizer makes of a text; None if its files set no limit."""
    path = folder / "tokenizer_config.json"
    limit = read_object(path).get("model_max_length") if path.is_file() else None
    # A tokenizer without a limit of its own has 1e30.
    return int(limit) if limit and limit < 1e9 else None


def _words(names: Any) -> str:
    return ", ".join(map(str, names)) if names else "no architecture named"
