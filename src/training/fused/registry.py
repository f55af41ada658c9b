"""Which models have a fused forward pass. Another architecture is a file beside this one and a line in `_BUILDERS`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch

from src.training.data.batches import Batch
from src.training.fused.dropout import DropoutMasks
from src.training.fused.encoder import fused_encoder

# transformers' own kernels differ from one another by about a tenth of it.
_TOLERANCE = 1e-4

log = logging.getLogger(__name__)


class FusedModel(Protocol):
    """Computes what a model computes, from the same weights, faster."""

    def __call__(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None = None, masks: DropoutMasks | None = None
    ) -> torch.Tensor:
        """Returns the model's logits.

        Args:
            batch: without labels.
            embedding_rows: rows of the word embedding that input_ids count; None: they count all rows.
            masks: dropout's; None for none. A head that is the model's own code drops as its training mode says.
        """


# Each returns None for a model that is not of its architecture, or has settings that it does not know.
_BUILDERS: tuple[Callable[[Any], FusedModel | None], ...] = (fused_encoder,)


def find_fused(model: Any) -> FusedModel | None:
    """Returns the fused forward pass of a model's architecture, unchecked, or None if there is none."""
    if hasattr(model, "peft_config"):
        # It would pass over the adapters, and an adapter that is still zero makes no difference to be seen.
        return None
    return next((fused for build in _BUILDERS if (fused := build(model)) is not None), None)


def fuse(model: Any) -> FusedModel | None:
    """Returns a faster forward pass of a model, or None if there is none for it.

    The model computes one batch both ways first: one whose answers differ, by a setting unknown here or a newer
    transformers, is left to its own code.
    """
    fused = find_fused(model)
    if fused is None or not all(_is_plain(weight) for weight in model.parameters()):
        return None
    batch = _sample(model.config)
    training = model.training
    model.eval()
    with torch.inference_mode():
        difference = (fused(batch) - model(**batch).logits).abs().max()
    model.train(training)
    if not difference < _TOLERANCE:
        log.info("The fused layers differ from this %s: it trains by its own code", model.config.model_type)
        return None
    return fused


def _is_plain(weight: torch.Tensor) -> bool:
    # numpy has no bfloat16, and would give float64 back as float32.
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def _sample(config: Any) -> Batch:
    """Returns two rows, one of them padded."""
    ids = torch.arange(6).reshape(2, 3) % config.vocab_size
    mask = torch.ones_like(ids)
    padding = config.pad_token_id or 0
    ids[ids == padding] = (padding + 1) % config.vocab_size
    ids[1, 2], mask[1, 2] = padding, 0
    return {"input_ids": ids, "attention_mask": mask}
