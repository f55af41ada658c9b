"""The model that a run starts from: found, checked by hash, and built with a new head."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.errors import RequestError
from src.disk.durable import file_sha256
from src.training.embedded import locate
from src.training.environment.hub import go_offline_unless_reachable
from src.training.recipes.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CONFIG_FILES = ("*.json", "*.txt", "*.model")
_SAFETENSORS = "model.safetensors"
_PICKLE = "pytorch_model.bin"
# What decides a model: files by these names, in the folder itself.
_HASHED = (".safetensors", ".bin", ".json", ".txt", ".model")
# Records of the run that made it: they hold times, and decide nothing.
_RECORDS = ("metrics.json", "recipe.json")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model on disk.

    Attributes:
        folder: its files.
        content: what recipe.json says of it: the hub's commit or `sha256`, a hash over its files.
    """

    folder: Path
    content: dict[str, str]


def find_base_model(recipe: Recipe, *, folder: Path) -> BaseModel:
    """Finds the files of the recipe's base model, on the hub, in a folder, or among the packages.

    Args:
        recipe: the run.
        folder: what a relative path is relative to.

    Raises:
        RequestError: it cannot be had, or its weights are not those the recipe names.
    """
    name = recipe.model_name_or_path
    if name.startswith(locate.PREFIX):
        path = _embedded(name.removeprefix(locate.PREFIX))
        origin: dict[str, str] = {}
    elif (local := folder / Path(name).expanduser()).is_dir():
        path, origin = local, {}
    elif name.startswith((".", "/", "~")):
        raise RequestError(f"the base model {name} is no folder: check the path")
    else:
        path = _from_hub(name, revision=recipe.model_revision, weights_sha256=recipe.model_weights_sha256)
        # huggingface_hub names a snapshot's folder by its commit.
        origin = {"commit": path.name}
    _check_weights(path, name=name, expected=recipe.model_weights_sha256)
    return BaseModel(folder=path, content={"source": name, **origin, "sha256": _content_sha256(path)})


def _embedded(name: str) -> Path:
    try:
        return locate.embedded_model(name)
    except (FileNotFoundError, ValueError) as error:
        raise RequestError(str(error)) from error


def _from_hub(name: str, *, revision: str | None, weights_sha256: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    go_offline_unless_reachable()
    weights = (_PICKLE,) if weights_sha256 else (_SAFETENSORS, "model-*.safetensors")
    try:
        # Sub-folders hold the same weights for other programs.
        found = snapshot_download(
            name, revision=revision, allow_patterns=[*_CONFIG_FILES, *weights, _SAFETENSORS], ignore_patterns=["*/*"]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        words = " ".join(str(error).split())
        raise RequestError(
            f"the base model {name} is not cached and cannot be had from the hub ({words[:100]}): connect to the "
            "hub, fill its cache, or use --model_name_or_path embedded:bert_tiny_minilm"
        ) from error
    return Path(found)


def _check_weights(path: Path, *, name: str, expected: str | None) -> None:
    """Refuses weights that are not the named ones, and pickles that are not named."""
    if not (path / "config.json").is_file():
        raise RequestError(f"{name} holds no config.json: it is not a transformers model")
    safetensors = sorted(path.glob("*.safetensors"))
    if not safetensors and not (path / _PICKLE).is_file():
        raise RequestError(f"{name} holds no {_SAFETENSORS}: it has no weights to start from")
    if not safetensors and expected is None:
        raise RequestError(
            f"{name} holds its weights as a pickle, which may run code: name their bits with "
            f"--model_weights_sha256 {file_sha256(path / _PICKLE)} if you trust them"
        )
    if expected is not None:
        if len(safetensors) > 1:
            raise RequestError(f"{name} has {len(safetensors)} weight files: model_weights_sha256 can name only one")
        weights = safetensors[0] if safetensors else path / _PICKLE
        found = file_sha256(weights)
        if found != expected.lower():
            raise RequestError(f"{name}: {weights.name} has sha256 {found}, but the recipe names {expected}")


def _content_sha256(path: Path) -> str:
    """Hash over the names and hashes of the files that decide the model."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.suffix in _HASHED and file.name not in _RECORDS and file.is_file():
            digest.update(f"{file.name}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def build_model(
    base: BaseModel,
    *,
    output_names: Sequence[str],
    seed: int,
    max_seq_length: int,
    problem_type: str = "single_label_classification",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Builds the classifier and its tokenizer. Every weight that the base does not hold comes from the seed.

    Args:
        base: what `find_base_model` found.
        output_names: names of the outputs by index.
        problem_type: of the model's config.
        seed: decides the new head.
        max_seq_length: tokens it must be able to read.

    Raises:
        RequestError: the files hold no such model, or one that reads fewer tokens than asked for.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    # Its load report tells that the head is new; the architecture section says it in one line.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # Before the first random number: a head drawn from another state would start every run elsewhere.
    torch.manual_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
        model = AutoModelForSequenceClassification.from_pretrained(
            base.folder,
            num_labels=len(output_names),
            id2label=dict(enumerate(output_names)),
            label2id={name: at for at, name in enumerate(output_names)},
            # Said, because a model that was trained for something else brings its own.
            problem_type=problem_type,
            # Weights stored as bfloat16 would be trained as such: slow and inexact on most CPUs.
            dtype=torch.float32,
            use_safetensors=any(base.folder.glob("*.safetensors")),
            # Another head's shape is no obstacle: it is replaced.
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        words = " ".join(str(error).split())
        raise RequestError(f"{base.content['source']} is no text classifier's base model: {words[:300]}") from error
    _check_fit(model, tokenizer, name=base.content["source"], max_seq_length=max_seq_length)
    _describe(model, base, padding=tokenizer.pad_token_id)
    return model, tokenizer


def _describe(model: Any, base: BaseModel, *, padding: int) -> None:
    """Tells the model's config what it is made of."""
    model.config._name_or_path = base.content["source"]
    if model.config.pad_token_id is None:
        # A decoder scores the last token that is not padding, and has to know which are.
        model.config.pad_token_id = padding


def _check_fit(model: Any, tokenizer: Any, *, name: str, max_seq_length: int) -> None:
    most = _most_tokens(model)
    if most is not None and max_seq_length > most:
        raise RequestError(
            f"max_seq_length must be at most {most} for {name}, not {max_seq_length}: it has no more positions"
        )
    if tokenizer.pad_token_id is None:
        raise RequestError(f"the tokenizer of {name} has no padding token: choose an encoder such as BERT")


def _most_tokens(model: Any) -> int | None:
    """Returns how many tokens a model can read; None where nothing limits them.

    RoBERTa and its kin count positions from the padding token's id on, and the embedding of positions says so: of 514
    they read 512.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    # XLNet says -1.
    if positions is None or positions < 0:
        return None
    embeddings = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    paddings = (getattr(embedding, "padding_idx", None) for embedding in embeddings)
    return int(positions) - max((padding + 1 for padding in paddings if padding is not None), default=0)
