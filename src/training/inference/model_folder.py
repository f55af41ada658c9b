"""A trained model's folder: whether it is one, and what its files say, read without loading torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
_HEAD = "ForSequenceClassification"
# Their positions begin after the padding token's: so many fewer tokens than positions can be read.
_POSITIONS_AFTER_PADDING = (
    *("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta"),
    *("xlm-roberta-xl", "xmod"),
)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A classifier on disk.

    Attributes:
        folder: its files, as transformers writes them.
        class_names: names by index, as the scores are ordered.
        max_seq_length: tokens it was trained on at most, or, where no recipe.json tells, as many as it can read.
        fingerprint: of the recipe; None for a model of other making.
        weight_bytes: size of its weights.
        text_pair_column: the column that the second text of its pairs came from; None: it was trained on single texts,
            or nothing tells.
        is_regression: whether its one output is a value.
        is_classifier: whether its outputs compete for one class. Otherwise it has one output, or independent ones.
    """

    folder: Path
    class_names: tuple[str, ...]
    max_seq_length: int
    fingerprint: str | None
    weight_bytes: int
    text_pair_column: str | None
    is_regression: bool
    is_classifier: bool


def find_trained_model(folder: Path, *, max_seq_length: int | None = None) -> TrainedModel:
    """Reads what a folder says about the model in it.

    Args:
        folder: of the model.
        max_seq_length: tokens to cut a text to, in place of the number the model was trained with.

    Raises:
        RequestError: there is no trained classifier in it, or it reads fewer tokens than asked for.
    """
    _check_folder(folder)
    config = _read_object(folder / "config.json")
    if not any(str(name).endswith(_HEAD) for name in config.get("architectures") or ()):
        raise RequestError(
            f"{folder} holds a model without a classification head ({_words(config.get('architectures'))}): "
            "train it first, with --model_name_or_path"
        )
    recipe = _read_object(folder / "recipe.json") if (folder / "recipe.json").is_file() else {}
    most = _most_tokens(folder, config)
    if max_seq_length is not None and most is not None and max_seq_length > most:
        raise RequestError(f"--max_seq_length must be at most {most} for {folder}, not {max_seq_length}")
    class_names = _class_names(config)
    return TrainedModel(
        folder=folder,
        class_names=class_names,
        max_seq_length=max_seq_length or recipe.get("recipe", {}).get("max_seq_length") or most or 512,
        fingerprint=recipe.get("fingerprint"),
        weight_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        text_pair_column=recipe.get("recipe", {}).get("text_pair_column_name"),
        is_regression=len(class_names) == 1 and config.get("problem_type") == "regression",
        is_classifier=len(class_names) > 1
        and config.get("problem_type") not in ("regression", "multi_label_classification"),
    )


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise RequestError(f"--model {folder} is a file: name the folder of a trained model")
    if not folder.is_dir():
        raise RequestError(f"--model {folder} does not exist: name the folder of a trained model")
    for what, found in (
        ("config.json", (folder / "config.json").is_file()),
        ("*.safetensors", any(folder.glob("*.safetensors"))),
        ("tokenizer files", any((folder / name).is_file() for name in _TOKENIZER_FILES)),
    ):
        if not found:
            raise RequestError(f"--model {folder} holds no {what}: name the folder of a trained model")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read ({error}): the model is damaged, train it again") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path} holds no object: the model is damaged, train it again")
    return content


def _class_names(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if names is None:
        # transformers leaves the names out where they are its own.
        return tuple(f"LABEL_{at}" for at in range(config.get("num_labels") or 2))
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _most_tokens(folder: Path, config: dict[str, Any]) -> int | None:
    """Returns how many tokens the model can read; None where its files set no limit."""
    limits = []
    if (positions := config.get("max_position_embeddings")) is not None:
        after = config.get("pad_token_id", 1) + 1 if config.get("model_type") in _POSITIONS_AFTER_PADDING else 0
        limits.append(positions - after)
    if (folder / "tokenizer_config.json").is_file():
        # A tokenizer without a limit of its own says so with 1e30.
        limits.append(int(_read_object(folder / "tokenizer_config.json").get("model_max_length") or 1e30))
    most = min(limits, default=int(1e30))
    return most if most < 1e9 else None


def _words(names: Any) -> str:
    return ", ".join(map(str, names)) if names else "no architecture named"
