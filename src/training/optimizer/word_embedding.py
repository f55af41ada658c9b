"""Where a model looks its tokens up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def word_embedding(model: Any) -> torch.nn.Embedding | None:
    """Returns the embedding of a model's tokens; None of one that has none: CANINE hashes characters."""
    import torch

    try:
        found = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return found if isinstance(found, torch.nn.Embedding) else None


def is_read_by_tokens_alone(model: Any, embedding: torch.nn.Embedding) -> bool:
    """Whether the rows of a batch's tokens are all that a step reads, so that only these have gradients.

    Not so of a head that is tied to it, of BART's encoder and decoder, which have modules of their own with the same
    weight, and of any decoder beside an encoder, which starts with a token that no text has.
    """
    readers = [module for module in model.modules() if getattr(module, "weight", None) is embedding.weight]
    return len(readers) == 1 and not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
