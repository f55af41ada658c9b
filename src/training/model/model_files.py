"""The files of a model's folder, by exact name: what may arrive here from elsewhere. Any other name stays out.

A name that means something to a program on this machine (BUILD, conftest.py, .bashrc, a pickle) must not arrive,
whatever it holds. Whoever receives models goes by these patterns: a further file of models is one more name here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

# What a run writes about itself.
RECORDS = r"recipe\.json|metrics\.json|events\.jsonl"
_CONFIGS = (
    r"config\.json|generation_config\.json|tokenizer_config\.json|model\.safetensors\.index\.json|"
    r"adapter/adapter_config\.json"
)
# Any of these holds the tokens that a tokenizer knows.
_VOCABULARY = (
    r"tokenizer\.json|vocab\.txt|vocab\.json|bpe\.codes|tokenizer\.model|spiece\.model|spm\.model|spm_char\.model|"
    r"sentencepiece\.model|sentencepiece\.bpe\.model|source\.spm|prophetnet\.tokenizer|vocab-src\.json|"
    r"byte_maps\.json|tiktoken\.model|tekken\.json"
)
# All that transformers' tokenizers read, and save_pretrained writes.
_TOKENIZER = (
    rf"{_VOCABULARY}|special_tokens_map\.json|added_tokens\.json|chat_template\.jinja|merges\.txt|target\.spm|dict\.txt|"
    r"vocab-tgt\.json|target_vocab\.json|entity_vocab\.json|normalizer\.json|emoji\.json|word_shape\.json|"
    r"word_pronunciation\.json"
)
# Licenses travel with the weights.
_FOR_PEOPLE = r"report\.html|README\.md|(LICENSE|NOTICE)(\.txt|\.md)?"
# Patterns for re.fullmatch, of names relative to the model's folder.
# Beside weights, what a training from the model reads.
CONFIGURATION = f"{_CONFIGS}|{_TOKENIZER}"
TEXTS = f"{RECORDS}|{CONFIGURATION}|{_FOR_PEOPLE}"
WEIGHTS = r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors"
# Of a language model's adapter, for peft.
ADAPTER_WEIGHTS = r"adapter/adapter_model\.safetensors"
PICKLED_WEIGHTS = r"pytorch_model(-[0-9]{5}-of-[0-9]{5})?\.bin"
PICKLED_INDEX = r"pytorch_model\.bin\.index\.json"
# The largest tokenizers take some 35 MB; an event log grows with the steps, by about 100 bytes a line.
MAX_TEXT_BYTES = 256 << 20
# Those are parsed, and objects take up to 50 times their text: 100,000 names of classes take some 4 MB.
MAX_CONFIG_BYTES = 16 << 20


def max_bytes(name: str) -> int | None:
    """Returns the most bytes that a file of a model may have; None: as many as the disk holds.

    Raises:
        ValueError: models have no file of that name.
    """
    if re.fullmatch(f"{WEIGHTS}|{ADAPTER_WEIGHTS}", name):
        return None
    if re.fullmatch(_CONFIGS, name):
        return MAX_CONFIG_BYTES
    if re.fullmatch(TEXTS, name):
        return MAX_TEXT_BYTES
    raise ValueError(f"{name[:80]!a} is not a file of a model")


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder has a file that holds a tokenizer's tokens."""
    return any(re.fullmatch(_VOCABULARY, path.name) for path in folder.iterdir() if path.is_file())


def shards(index: Path) -> set[str]:
    """Returns the names of the weight files that an index lists.

    Raises:
        ValueError: it is not an index.
    """
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index.name} is not an index of weights") from error
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{index.name} names no weights")
    return names
