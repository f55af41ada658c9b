"""How byte-level vocabularies split a text before they merge: llama.cpp's names for what tokenizer.json writes out."""

from __future__ import annotations

import json
from typing import Any

_ENGLISH = "'s|'t|'re|'ve|'m|'ll|'d"
_LLAMA3 = (
    rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _split(pattern: str) -> dict[str, Any]:
    return _sequence(
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {**_BYTE_LEVEL, "use_regex": False},
    )


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


# Of src/llama-vocab.cpp, by the name that convert_hf_to_gguf.py writes.
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": _sequence({"type": "Digits", "individual_digits": True}, _BYTE_LEVEL),
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_QWEN2),
}
# Other names that llama.cpp treats in the same way.
_SAME = {
    "mpt": "gpt-2",
    "olmo": "gpt-2",
    "starcoder": "smollm",
    "refact": "smollm",
    "command-r": "smollm",
    "codeshell": "smollm",
    "exaone": "smollm",
    "llama-v3": "llama-bpe",
    "llama3": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
}
# A piece that is a token is taken whole, whatever its merges are.
IGNORE_MERGES = ("llama-bpe",)
# Texts that any two of them split differently.
CHECK = (
    "\n \n\n \t\t \r\n  x \U0001f680 (normal) \U0001f636\u200d\U0001f32b 3 33 333 3333 3.3 3..3 1\u00bd\u2167 "
    "\u0e01\u0e33\u0e25\u0e31\u0e07 \u6211\u60f3\u5728apple\u5de5\u4f5c1314\u5929\uff5e ---=== "
    "\u043d\u0435\u0449\u043e "
    "''''``\"\"..!!?? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you We'Ve a'lL caf\u00e9  "
)


def pre_tokenizer(name: str) -> tuple[str, dict[str, Any]] | None:
    """Returns the name and the part of tokenizer.json of what llama.cpp calls `name`; None if it is not known."""
    name = _SAME.get(name, name)
    return (name, PRE_TOKENIZERS[name]) if name in PRE_TOKENIZERS else None


def name_of(written: dict[str, Any] | None) -> str | None:
    """Returns llama.cpp's name for the pre-tokenizer of a tokenizer.json; None if none splits texts as it does."""
    pieces = _pieces(written)
    return next((name for name, known in PRE_TOKENIZERS.items() if _pieces(known) == pieces), None)


def _pieces(written: dict[str, Any] | None) -> list[str] | None:
    from tokenizers import Tokenizer

    model = {"type": "BPE", "vocab": {}, "merges": []}
    splitter = Tokenizer.from_str(json.dumps({"version": "1.0", "model": model, "pre_tokenizer": written}))
    if splitter.pre_tokenizer is None:
        return None
    return [piece for piece, _ in splitter.pre_tokenizer.pre_tokenize_str(CHECK)]
