"""Pairs of texts as programs and people hand them in: JSON lines, or two arguments each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from src.cli.errors import RequestError
from src.training.inference.model_folder import TrainedModel

# A single text, or both texts of a pair: tokenizers take lists of either.
Text = str | tuple[str, str]

_EXAMPLE = '{"text": "a fine film", "text_pair": "I liked it"}'


def expects_pairs(source: TrainedModel, *, asked: bool) -> bool:
    """Whether a model is to be given pairs: it was trained on them, or nobody knows what on and the user says so.

    Raises:
        RequestError: the user says so, and the model was trained on single texts.
    """
    if source.text_pair_column is not None:
        return True
    if asked and source.fingerprint is not None:
        raise RequestError(f"{source.folder} was trained on single texts: leave out --pairs")
    return asked


def pair_arguments(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Returns texts two by two.

    Raises:
        RequestError: one is left over.
    """
    if len(texts) % 2:
        raise RequestError(f"the model reads pairs of texts, and {len(texts)} texts are no pairs: give two for each")
    return list(zip(texts[::2], texts[1::2], strict=True))


def parse_pair(line: str, number: int) -> tuple[str, str]:
    """Returns the pair in a JSON line; other fields than the two may stand in it.

    Raises:
        RequestError: it holds none.
    """
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise RequestError(f"line {number} is no JSON object, and the model reads pairs of texts, such as {_EXAMPLE}")
    for name in ("text", "text_pair"):
        if not isinstance(said.get(name), str) or not said[name].strip():
            raise RequestError(f"line {number} has no {name}: every line must be like {_EXAMPLE}")
    return said["text"], said["text_pair"]
