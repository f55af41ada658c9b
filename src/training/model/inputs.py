"""Which of a tokenizer's outputs a model reads; above all token types, which tell BERT the texts of a pair apart."""

from __future__ import annotations

import inspect
from typing import Any

from src.training.data.batches import TOKEN_TYPES
from src.training.model.lora import without_adapter


def input_names(model: Any, tokenizer: Any) -> list[str]:
    """Returns the tokenizer's outputs that the model reads, in the order of the model's arguments.

    The tokenizer alone does not decide: transformers gives DistilBERT, which has no token types, the tokenizer of
    BERT; and a BERT with a single type has no embedding for that of the second text.
    """
    arguments = inspect.signature(without_adapter(model).forward).parameters
    names = [name for name in arguments if name in tokenizer.model_input_names]
    if getattr(model.config, "type_vocab_size", None) == 1:
        return [name for name in names if name != TOKEN_TYPES]
    return names


def reads_token_types(model: Any, tokenizer: Any) -> bool:
    """Whether a model tells the two texts of a pair apart by token types, and not by separators alone."""
    return TOKEN_TYPES in input_names(model, tokenizer)
