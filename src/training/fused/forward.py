"""A classifier's forward pass by the fused layers, for the kinds of models that consist of them."""

from __future__ import annotations

import logging
from typing import Any

import torch

from src.training.data.batches import Batch
from src.training.fused.dropout import DropoutMasks
from src.training.fused.embedding import Embedding
from src.training.fused.encoder import EncoderParts, LayerParts, encoder_parts
from src.training.fused.layers import Attention, FeedForward

_HIDDEN = torch.finfo(torch.float32).min
# transformers' own kernels differ from one another by about a tenth of it.
_TOLERANCE = 1e-4

log = logging.getLogger(__name__)


class FusedClassifier:
    """Computes what a model computes, from the same weights."""

    def __init__(self, parts: EncoderParts) -> None:
        """Takes the model's parts; see `fuse`."""
        self._parts = parts

    def __call__(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None = None, masks: DropoutMasks | None = None
    ) -> torch.Tensor:
        """Returns logits [rows, classes].

        Args:
            batch: as of EncodedRows.batch.
            words: rows of the word embedding that the batch's ids count, where they do not count all of them.
            masks: dropout's; None for none. The head has dropout of its own, in training mode.
        """
        padding = batch.get("attention_mask")
        bias = None if padding is None else (1.0 - padding[:, None, None].float()) * _HIDDEN
        hidden = self._embed(batch, embedding_rows, masks)
        for layer in self._parts.layers[:-1]:
            hidden = self._apply(layer, hidden, hidden.shape[1], bias, masks)
        return self._parts.head(self._apply(self._parts.layers[-1], hidden, 1, bias, masks))

    def _embed(self, batch: Batch, embedding_rows: torch.Tensor | None, masks: DropoutMasks | None) -> torch.Tensor:
        ids, embeddings = batch["input_ids"], self._parts.embeddings
        types = getattr(embeddings, "token_type_embeddings", None)
        norm = embeddings.LayerNorm
        hidden: torch.Tensor = Embedding.apply(
            embeddings.word_embeddings.weight if embedding_rows is None else embedding_rows,
            embeddings.position_embeddings.weight,
            None if types is None else types.weight,
            (ids, self._parts.first_position, batch.get("token_type_ids"), norm.eps),
            masks and masks.draw((*ids.shape, len(norm.weight)), self._parts.dropout),
            norm.weight,
            norm.bias,
        )
        return hidden

    def _apply(
        self, layer: LayerParts, hidden: torch.Tensor, asked: int, bias: torch.Tensor | None, masks: DropoutMasks | None
    ) -> torch.Tensor:
        rows, tokens, width = hidden.shape
        shape = layer.shape(self._parts.heads)
        shapes = ((rows, shape.heads, asked, tokens), (rows * asked, width), (rows * asked, width))
        drawn = [masks and masks.draw(size, p) for size, p in zip(shapes, layer.dropout, strict=True)]
        attended = Attention.apply(hidden, asked, bias, (drawn[0], drawn[1]), shape, *_weights(layer.attention))
        out: torch.Tensor = FeedForward.apply(attended, drawn[2], shape, *_weights(layer.feed_forward))
        return out.view(rows, asked, width)


def _weights(modules: tuple[Any, ...]) -> list[torch.Tensor]:
    return [weight for module in modules for weight in (module.weight, module.bias)]


def fuse(model: Any) -> FusedClassifier | None:
    """Returns a faster forward pass of a model, or None if there is none for it.

    The model is asked for one batch both ways first: one that answers otherwise, by a setting unknown here or a newer
    transformers, is left to its own code.
    """
    parts = encoder_parts(model)
    if parts is None or not all(_is_plain(weight) for weight in model.parameters()):
        return None
    fused = FusedClassifier(parts)
    batch = _sample(model.config)
    training = model.training
    model.eval()
    with torch.inference_mode():
        difference = (fused(batch) - model(**batch).logits).abs().max()
    model.train(training)
    if not difference < _TOLERANCE:
        log.info("The fused layers answer otherwise than this %s: it trains by its own", model.config.model_type)
        return None
    return fused


def _is_plain(weight: torch.Tensor) -> bool:
    # numpy knows no bfloat16, and would give float64 back as float32.
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def _sample(config: Any) -> Batch:
    """Returns two rows, one of them padded."""
    ids = torch.arange(6).reshape(2, 3) % config.vocab_size
    mask = torch.ones_like(ids)
    padding = config.pad_token_id or 0
    ids[ids == padding] = (padding + 1) % config.vocab_size
    ids[1, 2], mask[1, 2] = padding, 0
    return {"input_ids": ids, "attention_mask": mask}
