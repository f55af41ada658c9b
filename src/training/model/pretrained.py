"""The only place that calls `from_pretrained`: on local folders, for safetensors, and never to run code of a folder."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError, in_one_line
from src.training.model.model_files import has_vocabulary

# What transformers raises where a file holds what it does not expect: it checks few types.
# ImportError: some kinds need a library that is not among the locked ones (LayoutLMv2's detectron2).
_WRONG_FILES = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, ImportError)
# sentence-transformers: what a model was trained on, as a list.
_DATA_CONFIG = "data_config.json"
_CLASSIFIER = "AutoModelForSequenceClassification"


def refuse_custom_code(folder: Path, *, name: str | Path | None = None) -> None:
    """Refuses a model that names Python of its own (`auto_map`), before transformers reads it.

    transformers would ask on the terminal whether to run it, and takes a line of piped input for the answer.

    Args:
        folder: of the model.
        name: what the message calls it, in place of the folder.

    Raises:
        RequestError: the model needs code of its own, or a config is not JSON.
    """
    # config.4.0.0.json: a config.json may name one to be read in its place.
    for path in sorted(path for path in folder.glob("*config*.json") if path.is_file()):
        check_config(path, name=name or folder)


def check_config(path: Path, *, name: str | Path) -> dict[str, Any]:
    """Returns a config, unless it names Python or is not a JSON object; `name` is what the message calls the model.

    Raises:
        RequestError: it is refused.
    """

    # At any depth: transformers builds parts of a model from parts of its config.
    def check(content: dict[str, Any]) -> dict[str, Any]:
        # A label of that name has a number.
        if isinstance(content.get("auto_map"), dict | list | str):
            raise RequestError(
                f"{name} needs Python code of its own ({path.name} has auto_map), which is never run: "
                "choose a model whose architecture is part of transformers"
            )
        return content

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=check)
        if not isinstance(content, dict) and path.name != _DATA_CONFIG:
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{name} cannot be loaded: {path.name} is not valid JSON ({error})") from error
    return content


def load_config(folder: Path) -> Any:
    """Loads the config of a model as transformers' class for its type."""
    return _from_pretrained("AutoConfig", folder)


def load_tokenizer(folder: Path, *, name: str | None = None) -> Any:
    """Loads the tokenizer of a model; `name` as for `load_model`.

    Raises:
        RequestError: there is none. transformers makes one of special tokens alone, to which all words are unknown.
    """
    tokenizer = _from_pretrained("AutoTokenizer", folder, name=name)
    # CANINE's and ByT5's read characters and bytes, and have no file of tokens.
    if type(tokenizer).vocab_files_names and not has_vocabulary(folder):
        raise RequestError(
            f"{name or folder} has no tokenizer (such as tokenizer.json): save its own beside the weights, "
            "with tokenizer.save_pretrained"
        )
    if not tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens}:
        raise RequestError(f"the tokenizer of {name or folder} knows no word: its files are damaged, copy them again")
    # It is saved with the tokenizer, and must not depend on how this one was loaded.
    tokenizer.init_kwargs["local_files_only"] = False
    return tokenizer


def load_model(
    folder: Path,
    *,
    name: str | None = None,
    model_class: str = _CLASSIFIER,
    use_safetensors: bool = True,
    **options: Any,
) -> Any:
    """Loads a model.

    Args:
        folder: of the model.
        name: what messages call it, in place of the folder.
        model_class: name of the class in transformers.
        use_safetensors: False only for a pickle whose hash `find_base_model` has checked.
        options: further arguments of `from_pretrained`.

    Raises:
        RequestError: the files are not such a model, or it needs code of its own.
    """
    return _from_pretrained(model_class, folder, name=name, use_safetensors=use_safetensors, **options)


def check_token_ids(model: Any, tokenizer: Any, *, name: str | Path) -> None:
    """Refuses a tokenizer that knows more tokens than the model has embeddings: reading one of them is an error.

    Args:
        model: of transformers.
        tokenizer: that goes with it.
        name: what the message calls the model.

    Raises:
        RequestError: it does.
    """
    from src.training.optimizer.word_embedding import word_embedding

    if (embedding := word_embedding(model)) is not None:
        check_vocabulary(tokenizer, rows=embedding.num_embeddings, name=name)


def check_vocabulary(tokenizer: Any, *, rows: int, name: str | Path) -> None:
    """Refuses a tokenizer that knows more tokens than so many rows of embeddings; see `check_token_ids`."""
    if (tokens := max(tokenizer.get_vocab().values()) + 1) > rows:
        raise RequestError(
            f"the tokenizer of {name} knows {tokens:,} tokens, and the model has embeddings for {rows:,}: choose the "
            "tokenizer that it was trained with, or save it after model.resize_token_embeddings(len(tokenizer))"
        )


def empty_model(folder: Path, *, model_class: str) -> Any:
    """Returns a model of a folder's config without weights, on the meta device.

    Raises:
        RequestError: the config names no such model.
    """
    config = load_config(folder)
    import torch
    import transformers

    try:
        with torch.device("meta"):
            return getattr(transformers, model_class).from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{folder} cannot be loaded as {model_class}: {in_one_line(error, limit=300)}") from error


def load_adapter(model: Any, folder: Path) -> Any:
    """Puts an adapter that peft saved on a model.

    Args:
        model: the base.
        folder: with adapter_config.json and adapter_model.safetensors.

    Raises:
        RequestError: it is not such an adapter, or not one of this model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError, safe_open

    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if not weights.is_file() or not config.is_file():
        raise RequestError(f"{folder} is not an adapter: it lacks {config.name} or {weights.name}")
    fields = check_config(config, name=f"the adapter in {folder}")
    # Other kinds read files and models that their config names, and Megatron's is a module that peft imports.
    if fields.get("peft_type") != "LORA" or fields.get("megatron_config"):
        raise RequestError(f"the adapter in {folder} is not LoRA alone, the one kind that is loaded")
    try:
        with warnings.catch_warnings():
            # Of what peft itself calls in transformers, and of weights that are missing: see below.
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(model, folder, local_files_only=True)
        with safe_open(weights, framework="numpy") as opened:
            wanted = set(opened.keys())
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        reason = in_one_line(error, limit=300)
        raise RequestError(f"the adapter in {folder} cannot be put on its base model: {reason}") from error
    from peft import get_peft_model_state_dict

    # peft drops what does not fit in silence.
    taken = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    if lost := sorted(wanted - taken):
        raise RequestError(f"the adapter in {folder} is of another base model: nothing takes its {lost[0]}")
    if lacking := sorted(taken - wanted):
        raise RequestError(f"the adapter in {folder} is damaged: it lacks {lacking[0]}")
    return adapted


def _from_pretrained(class_name: str, folder: Path, *, name: str | None = None, **options: Any) -> Any:
    refuse_custom_code(folder, name=name)
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import dynamic_module_utils
    from transformers.utils import logging as transformers_logging

    # Its load report says that a head is new; the callers say what a user needs to know.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # The parts of a model are built without the flag: an error, in place of a question on the terminal.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        return getattr(transformers, class_name).from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **options
        )
    except (*_WRONG_FILES, SafetensorError, StrictDataclassError) as error:
        what = class_name if class_name not in (_CLASSIFIER, "AutoConfig", "AutoTokenizer") else "a text classifier"
        reason = in_one_line(error, limit=300)
        if isinstance(error, SafetensorError):
            reason = f"damaged weights ({reason})"
        raise RequestError(f"{name or folder} cannot be loaded as {what}: {reason}") from error
