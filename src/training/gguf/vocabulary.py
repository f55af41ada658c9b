"""The tokenizer of a GGUF file, made of transformers'; the way back is tokenizer.py."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from src.cli.errors import RequestError
from src.training.gguf.pre_tokenizers import IGNORE_MERGES, name_of
from src.training.gguf.tokenizer import SPACE, TokenType

_BYTE = re.compile("<0x[0-9A-F]{2}>")


def vocabulary(tokenizer: Any, *, rows: int, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Returns the `tokenizer.` keys of a GGUF file, without that prefix.

    Args:
        tokenizer: of transformers.
        rows: of the model's embeddings.
        stop_ids: tokens that end an answer.

    Raises:
        RequestError: llama.cpp cannot split or merge texts as it does.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise RequestError("its tokenizer is written in Python alone, and llama.cpp has no counterpart")
    written = json.loads(backend.to_str())
    if written["model"]["type"] != "BPE":
        raise RequestError(f"its tokenizer is of the kind {written['model']['type']}, and not BPE")
    ids = {**written["model"]["vocab"], **{token["content"]: token["id"] for token in written["added_tokens"]}}
    if (largest := max(ids.values())) >= rows:
        raise RequestError(f"its tokenizer has a token of number {largest}, and its embeddings have {rows} rows")
    tokens, types = [f"[PAD{at}]" for at in range(rows)], [int(TokenType.UNUSED)] * rows
    for token, at in ids.items():
        tokens[at], types[at] = token, int(TokenType.NORMAL)
    own = _sentencepiece(written, types=types) if written["model"].get("byte_fallback") else _byte_level(written)
    for token in written["added_tokens"]:
        # llama.cpp never finds a control token in a user's text.
        types[token["id"]] = int(TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED)
    keys = {"tokens": tokens, "token_type": types, **own, **_special(tokenizer, stop_ids=stop_ids)}
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return {
        **{f"ggml.{name}": value for name, value in keys.items()},
        **({"chat_template": template} if template else {}),
    }


def _byte_level(written: dict[str, Any]) -> dict[str, Any]:
    model, normalizer = written["model"], written["normalizer"]
    name = name_of(written["pre_tokenizer"])
    if name is None or (model.get("ignore_merges") and name not in IGNORE_MERGES):
        raise RequestError("its tokenizer splits texts in a way that has no name in llama.cpp")
    # llama.cpp composes no letters for Qwen's either.
    if normalizer is not None and normalizer["type"] != "NFC":
        raise RequestError(f"its tokenizer changes texts ({normalizer['type']}), and llama.cpp's does not")
    return {"model": "gpt2", "pre": name, "merges": _merges(model), "add_space_prefix": False}


def _sentencepiece(written: dict[str, Any], *, types: list[int]) -> dict[str, Any]:
    """As `_byte_level`; sets the types of bytes and of the unknown token."""
    from tokenizers import Tokenizer

    alone = Tokenizer.from_str(json.dumps({**written, "added_tokens": [], "post_processor": None}))
    text = "a b"
    if alone.normalizer is not None:
        text = alone.normalizer.normalize_str(text)
    pieces = (
        [text] if alone.pre_tokenizer is None else [piece for piece, _ in alone.pre_tokenizer.pre_tokenize_str(text)]
    )
    whole = f"a{SPACE}b"
    if pieces not in ([whole], [SPACE + whole]):
        raise RequestError("its tokenizer splits texts in a way that has no name in llama.cpp")
    # SentencePiece merges by the score of what comes out.
    scores = [0.0] * len(types)
    ids = written["model"]["vocab"]
    for rank, merge in reversed([*enumerate(_merges(written["model"]))]):
        scores[ids[merge.replace(" ", "")]] = -float(rank)
    for token, at in ids.items():
        if _BYTE.fullmatch(token):
            types[at] = int(TokenType.BYTE)
    unknown = written["model"].get("unk_token")
    if unknown in ids:
        types[ids[unknown]] = int(TokenType.UNKNOWN)
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": pieces[0].startswith(SPACE)}


def _merges(model: dict[str, Any]) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _special(tokenizer: Any, *, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Returns the numbers of the special tokens, and which of them are put around a text."""
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    numbers = {key: getattr(tokenizer, f"{name}_token_id") for name, key in names.items()}
    if numbers["eos"] is None and stop_ids:
        numbers["eos"] = stop_ids[0]
    further = (at for at in stop_ids if at != numbers["eos"])
    # The end of a turn, and of a message: an answer ends at each of them.
    numbers |= dict(zip(("eot", "eom"), further, strict=False))
    bare, around = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    begins, ends = around != bare and around[0] == numbers["bos"], around != bare and around[-1] == numbers["eos"]
    if around != [*[numbers["bos"]] * begins, *bare, *[numbers["eos"]] * ends]:
        raise RequestError("its tokenizer puts tokens around a text that are neither its begin nor its end")
    return {
        **{f"{key}_token_id": number for key, number in numbers.items() if number is not None},
        "add_bos_token": begins,
        "add_eos_token": ends,
    }
