"""The tokenizer of a GGUF file, as transformers' files."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

from src.cli.errors import RequestError
from src.training.gguf.pre_tokenizers import IGNORE_MERGES, PRE_TOKENIZERS, pre_tokenizer

SPACE = "\u2581"


class TokenType(IntEnum):
    """What a token is, in `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def tokenizer_files(metadata: dict[str, Any]) -> dict[str, bytes]:
    """Returns the content of tokenizer.json, tokenizer_config.json and, if there is one, chat_template.jinja.

    Raises:
        RequestError: llama.cpp's tokenizer has no counterpart here.
    """
    keys = {name.removeprefix("tokenizer.ggml."): value for name, value in metadata.items()}
    tokens = keys["tokens"]
    types = keys.get("token_type") or [TokenType.NORMAL] * len(tokens)
    special = {
        f"{name}_token": tokens[keys[f"{key}_token_id"]]
        for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
        if keys.get(f"{key}_token_id", len(tokens)) < len(tokens)
    }
    kinds = {"gpt2": _byte_level, "llama": _sentencepiece}
    if keys["model"] not in kinds:
        raise RequestError(f"its tokenizer is of the kind {keys['model']!r}, not one of {', '.join(kinds)}")
    # Unused rows have no text: they stand for nothing, and fill the matrix up.
    vocabulary = {token: at for at, token in enumerate(tokens) if types[at] != TokenType.UNUSED}
    added = {at: types[at] for at in vocabulary.values() if types[at] in (TokenType.CONTROL, TokenType.USER_DEFINED)}
    for name in special.values():
        added.setdefault(vocabulary[name], TokenType.CONTROL)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": at,
                "content": tokens[at],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind == TokenType.CONTROL,
            }
            for at, kind in sorted(added.items())
        ],
        **kinds[keys["model"]](keys, vocabulary),
        "post_processor": _post_processor(
            vocabulary,
            # llama.cpp's defaults where a file does not say.
            bos=special["bos_token"] if keys.get("add_bos_token", keys["model"] == "llama") else None,
            eos=special["eos_token"] if keys.get("add_eos_token", False) else None,
        ),
    }
    config = {
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata[f"{metadata['general.architecture']}.context_length"],
        # The class that takes tokenizer.json as it is, in every version of transformers.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    files = {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        "tokenizer_config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode("utf-8"),
    }
    if "tokenizer.chat_template" in metadata:
        files["chat_template.jinja"] = metadata["tokenizer.chat_template"].encode("utf-8")
    return files


def _byte_level(keys: dict[str, Any], vocabulary: dict[str, int]) -> dict[str, Any]:
    found = pre_tokenizer(keys.get("pre", "default"))
    if found is None:
        raise RequestError(
            f"its tokenizer splits texts as {keys.get('pre', 'default')!r}, and known here are "
            f"{', '.join(PRE_TOKENIZERS)}: use the folder that the file was made of"
        )
    name, splitter = found
    return {
        "normalizer": {"type": "NFC"} if name == "qwen2" else None,
        "pre_tokenizer": splitter,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(
            vocabulary, [merge.split(" ", 1) for merge in keys["merges"]], ignore_merges=name in IGNORE_MERGES
        ),
    }


def _sentencepiece(keys: dict[str, Any], vocabulary: dict[str, int]) -> dict[str, Any]:
    """As transformers writes Llama 2's: merges made of the scores, and no splitting."""
    prefix = [{"type": "Prepend", "prepend": SPACE}] if keys.get("add_space_prefix", True) else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, replace]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": _bpe(
            vocabulary,
            _merges(vocabulary, keys["scores"]),
            unk_token=keys["tokens"][keys.get("unknown_token_id", 0)],
            fuse_unk=True,
            byte_fallback=True,
        ),
    }


def _merges(vocabulary: dict[str, int], scores: list[float]) -> list[list[str]]:
    """Returns every pair of tokens that makes a token, the best-scored first; a stable order among equals."""
    pairs = [
        (-scores[at], at, vocabulary[token[:cut]], vocabulary[token[cut:]], token[:cut], token[cut:])
        for token, at in vocabulary.items()
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    return [[left, right] for *_, left, right in sorted(pairs)]


def _bpe(vocabulary: dict[str, int], merges: list[list[str]], **options: Any) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **options,
        "vocab": vocabulary,
        "merges": merges,
    }


def _post_processor(vocabulary: dict[str, int], *, bos: str | None, eos: str | None) -> dict[str, Any] | None:
    """Returns what adds tokens around a text; None if nothing does."""
    if bos is None and eos is None:
        return None

    def around(name: str, type_id: int) -> list[dict[str, Any]]:
        text: dict[str, Any] = {"Sequence": {"id": name, "type_id": type_id}}
        tokens = [{"SpecialToken": {"id": token, "type_id": type_id}} for token in (bos, eos) if token is not None]
        return [*tokens[: bos is not None], text, *tokens[bos is not None :]]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in (bos, eos) if token
        },
    }
