"""Pairs of texts on input: JSON lines, or two arguments each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from src.cli.errors import RequestError
from src.training.inference.model_folder import TrainedModel

# A single text, or both texts of a pair: tokenizers take lists of either.
Text = str | tuple[str, str]

_EXAMPLE = '{"text": "a fine film", "text_pair": "I liked it"}'


def expects_pairs(source: TrainedModel, *, flag: bool) -> bool:
    """Whether a model reads pairs: it was trained on them, or that is unknown and the user says so.

    Args:
        source: the model.
        flag: whether the user says so.

    Raises:
        RequestError: the user says so, but the model was trained on single texts.
    """
    if source.text_pair_column is not None:
        return True
    if flag and source.fingerprint is not None:
        raise RequestError(f"{source.folder} was trained on single texts: leave out --pairs")
    return flag


def pair_arguments(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Returns texts two by two.

    Raises:
        RequestError: one is left over.
    """
    if len(texts) % 2:
        raise RequestError(f"the model reads pairs of texts, but {len(texts)} texts were given: give two per pair")
    return list(zip(texts[::2], texts[1::2], strict=True))


def parse_pair(line: str, number: int) -> tuple[str, str]:
    """Returns the pair in a JSON line, which may have other fields too.

    Raises:
        RequestError: there is none.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise RequestError(f"line {number} is not a JSON object: the model reads pairs of texts, such as {_EXAMPLE}")
    for name in ("text", "text_pair"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise RequestError(f"line {number} has no {name}: every line must be like {_EXAMPLE}")
    return fields["text"], fields["text_pair"]
