"""The model that a run starts from: found, checked by hash, and built with a new head."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.errors import RequestError, in_one_line
from src.disk.durable import file_sha256
from src.training.embedded import locate
from src.training.environment.hub import go_offline_unless_reachable
from src.training.model.gguf_model import SUFFIX, gguf_model_folder
from src.training.model.lora import SEQ_CLS, Lora, add_lora
from src.training.model.max_tokens import max_tokens
from src.training.model.pretrained import check_token_ids, load_model, load_tokenizer, refuse_custom_code

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SAFETENSORS = "model.safetensors"
_PICKLE = "pytorch_model.bin"
# Files that make up a model, in the folder itself.
_HASHED = (
    *(".safetensors", ".bin", ".json", ".txt", ".model"),
    # Further files of tokenizers, and the chat template.
    *(".jinja", ".codes", ".tiktoken", ".bpe", ".spm", ".vocab", ".tokenizer"),
)
_CONFIG_FILES = tuple(f"*{suffix}" for suffix in _HASHED if suffix not in (".safetensors", ".bin"))
# Records of the run that made it: they hold times, and do not affect the model.
_RECORDS = ("metrics.json", "recipe.json")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model on disk.

    Attributes:
        folder: its files.
        content: what recipe.json says of it: its name, the hub's commit, and `sha256`, a hash over its files.
    """

    folder: Path
    content: dict[str, str]

    @property
    def max_tokens(self) -> int | None:
        """How many tokens it can read; None if nothing limits them."""
        return max_tokens(json.loads((self.folder / "config.json").read_text(encoding="utf-8")))

    @property
    def loadable_name(self) -> str:
        """What peft is to load it by: its name, unless that is none that transformers knows."""
        source = self.content["source"]
        is_derived = source.startswith(locate.PREFIX) or source.endswith(SUFFIX)
        # A test's folders are gone when it ends.
        return str(self.folder) if is_derived and "TEST_TMPDIR" not in os.environ else source


def find_base_model(
    name: str, *, folder: Path, revision: str | None = None, weights_sha256: str | None = None
) -> BaseModel:
    """Finds the files of a base model, on the hub, in a folder, or among the packages.

    Args:
        name: a hub name, a folder, a GGUF file, or embedded:NAME.
        folder: what a relative path is relative to.
        revision: commit of a hub model.
        weights_sha256: of the weight file; needed for a pickle.

    Raises:
        RequestError: it cannot be loaded, or its weights have another hash.
    """
    if name.startswith(locate.PREFIX):
        path = _embedded(name.removeprefix(locate.PREFIX))
        origin: dict[str, str] = {}
    elif (local := folder / Path(name).expanduser()).is_dir():
        path, origin = local, {}
    elif local.suffix == SUFFIX:
        path, file_hash = gguf_model_folder(local, name=name, weights_sha256=weights_sha256)
        origin, weights_sha256 = {"file_sha256": file_hash}, None
    elif name.startswith((".", "/", "~")):
        raise RequestError(f"the base model {name} is not a folder: check the path")
    else:
        path = _from_hub(name, revision=revision, weights_sha256=weights_sha256)
        # huggingface_hub names a snapshot's folder by its commit.
        origin = {"commit": path.name}
    _check_weights(path, name=name, expected=weights_sha256)
    refuse_custom_code(path, name=name)
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
        raise RequestError(
            f"cannot load base model {name}: it is not cached, and the hub does not serve it "
            f"({in_one_line(error, limit=100)}): connect to the hub, fill its cache, or use "
            "--model_name_or_path embedded:bert_tiny_minilm"
        ) from error
    return Path(found)


def _check_weights(path: Path, *, name: str, expected: str | None) -> None:
    """Refuses weights with another hash than the expected one, and pickles without one."""
    if not (path / "config.json").is_file():
        files = sorted(file.name for file in path.glob(f"*{SUFFIX}"))
        hint = f"; its {files[0]} is a base model: name the file" if files else ""
        raise RequestError(f"{name} has no config.json: it is not a transformers model{hint}")
    safetensors = sorted(path.glob("*.safetensors"))
    if not safetensors and not (path / _PICKLE).is_file():
        raise RequestError(f"{name} has no {_SAFETENSORS}: there are no weights to start from")
    if not safetensors and expected is None:
        raise RequestError(
            f"{name} has its weights in a pickle, which may run code: if you trust it, give its hash with "
            f"--model_weights_sha256 {file_sha256(path / _PICKLE)}"
        )
    if expected is not None:
        if len(safetensors) > 1:
            raise RequestError(f"{name} has {len(safetensors)} weight files: model_weights_sha256 is for a single one")
        weights = safetensors[0] if safetensors else path / _PICKLE
        found = file_sha256(weights)
        if found != expected.lower():
            raise RequestError(f"{name}: {weights.name} has sha256 {found}, not {expected} as in the recipe")


def _content_sha256(path: Path) -> str:
    """Hash over the names and hashes of the files that decide the model."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.suffix in _HASHED and file.name not in _RECORDS and file.is_file():
            digest.update(f"{file.name}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def has_chat_template(folder: Path) -> bool:
    """Whether a model has a chat template, by its files alone."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Loading the tokenizer gives the error.
        return False
    return bool(config.get("chat_template"))


def build_model(
    base: BaseModel,
    *,
    output_names: Sequence[str],
    seed: int,
    max_seq_length: int,
    problem_type: str = "single_label_classification",
    lora: Lora | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Builds the classifier and its tokenizer. Every weight that the base does not hold comes from the seed.

    Args:
        base: what `find_base_model` found.
        output_names: names of the outputs by index.
        problem_type: of the model's config.
        seed: decides the new head.
        max_seq_length: tokens it must be able to read.
        lora: adapters to train in place of the base's weights; the head is trained whole.

    Raises:
        RequestError: the files are not such a model, or it reads fewer tokens than max_seq_length.
    """
    import torch

    from src.training.model.trial import check_classifies

    name = base.content["source"]
    tokenizer = load_tokenizer(base.folder, name=name)
    _give_padding(tokenizer, name=name)
    # Before the first random number: a head drawn from another state would start every run elsewhere.
    torch.manual_seed(seed)
    model, loaded = load_model(
        base.folder,
        name=name,
        output_loading_info=True,
        num_labels=len(output_names),
        id2label=dict(enumerate(output_names)),
        label2id={output: at for at, output in enumerate(output_names)},
        # Set, because a model that was trained for something else brings its own.
        problem_type=problem_type,
        # Weights stored as bfloat16 would be trained as such: slow and inexact on most CPUs.
        dtype=torch.float32,
        use_safetensors=any(base.folder.glob("*.safetensors")),
        # Another head's shape is no obstacle: it is replaced.
        ignore_mismatched_sizes=True,
    )
    _check_fit(model, name=name, max_seq_length=max_seq_length)
    check_token_ids(model, tokenizer, name=name)
    _describe(model, base, padding=tokenizer.pad_token_id)
    check_classifies(model, tokenizer, name=name, max_seq_length=max_seq_length)
    if lora is not None:
        new = loaded["missing_keys"] | {name for name, *_ in loaded["mismatched_keys"]}
        model = add_lora(model, lora, seed=seed, base_name=base.loadable_name, task_type=SEQ_CLS, new_weights=new)
    return model, tokenizer


def _describe(model: Any, base: BaseModel, *, padding: int) -> None:
    """Completes the model's config."""
    model.config._name_or_path = base.content["source"]
    # Of a model that reads images too, that of its text alone has one.
    config = model.config.get_text_config()
    if getattr(config, "pad_token_id", None) is None or hasattr(model, "score"):
        # A decoder scores the last token that is not padding, and has to know which are: what the tokenizer pads with.
        config.pad_token_id = padding


def _check_fit(model: Any, *, name: str, max_seq_length: int) -> None:
    limit = max_tokens(model.config.to_dict())
    if limit is not None and max_seq_length > limit:
        raise RequestError(
            f"max_seq_length must be at most {limit} for {name}, not {max_seq_length}: it has no more positions"
        )


def _give_padding(tokenizer: Any, *, name: str) -> None:
    """Gives a tokenizer without a padding token one of its own tokens: the end of text, as everybody does by hand.

    A decoder scores the last token that is not padding, and knows padding by its id alone: where the tokenizer ends
    every text with that token, another one pads, which stands at no text's end.
    """
    if tokenizer.pad_token_id is not None:
        return
    end = tokenizer.eos_token
    if end is None:
        raise RequestError(f"the tokenizer of {name} has no padding token and no end token: choose another model")
    others = (tokenizer.bos_token, tokenizer.unk_token) if _ends_texts(tokenizer) else ()
    tokenizer.pad_token = next((token for token in others if token not in (None, end)), end)


def _ends_texts(tokenizer: Any) -> bool:
    ids: list[int] = tokenizer("a")["input_ids"]
    return ids[-1:] == [tokenizer.eos_token_id]
