"""The forward pass of a BERT (MiniLM is one), RoBERTa or DistilBERT classifier by the fused layers.

The parts of such a classifier are found in transformers' modules; only their weights and dropout are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from src.training.data.batches import Batch
from src.training.fused.dropout import DropoutMasks
from src.training.fused.layers import Attention, Embedding, FeedForward, Shape

Modules = tuple[torch.nn.Module, ...]

# Added to the attention scores of padding.
_MASKED = torch.finfo(torch.float32).min


@dataclass(frozen=True, kw_only=True)
class LayerParts:
    """One layer.

    Attributes:
        attention: its query, key, value, output and normalisation.
        feed_forward: its two linear modules and the normalisation.
        dropout: probability for the attention's probabilities, its output, and the layer's output.
    """

    attention: Modules
    feed_forward: Modules
    dropout: tuple[float, float, float]

    def shape(self, heads: int) -> Shape:
        """Returns what its functions have to know."""
        norm: Any = self.attention[-1]
        return Shape(heads=heads, eps=norm.eps)


@dataclass(frozen=True, kw_only=True)
class EncoderParts:
    """A classifier of an encoder that reads the first token's output alone.

    Attributes:
        embeddings: module with word_embeddings, position_embeddings, LayerNorm and perhaps token_type_embeddings.
        layers: the encoder's.
        heads: attention heads of each layer.
        head: from the last layer's first tokens [rows, 1, width] to logits [rows, classes].
        dropout: probability for the embeddings.
        first_position: position of a row's first token.
    """

    embeddings: Any
    layers: tuple[LayerParts, ...]
    heads: int
    head: Callable[[torch.Tensor], torch.Tensor]
    dropout: float
    first_position: int = 0


class FusedEncoder:
    """Computes what a classifier computes; see `FusedModel`."""

    def __init__(self, parts: EncoderParts) -> None:
        self._parts = parts

    def __call__(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None = None, masks: DropoutMasks | None = None
    ) -> torch.Tensor:
        """Returns logits [rows, classes]."""
        padding = batch.get("attention_mask")
        bias = None if padding is None else (1.0 - padding[:, None, None].float()) * _MASKED
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
        self,
        layer: LayerParts,
        hidden: torch.Tensor,
        queries: int,
        bias: torch.Tensor | None,
        masks: DropoutMasks | None,
    ) -> torch.Tensor:
        rows, tokens, width = hidden.shape
        shape = layer.shape(self._parts.heads)
        shapes = ((rows, shape.heads, queries, tokens), (rows * queries, width), (rows * queries, width))
        drawn = [masks and masks.draw(size, p) for size, p in zip(shapes, layer.dropout, strict=True)]
        attended = Attention.apply(hidden, queries, bias, (drawn[0], drawn[1]), shape, *_weights(layer.attention))
        out: torch.Tensor = FeedForward.apply(attended, drawn[2], shape, *_weights(layer.feed_forward))
        return out.view(rows, queries, width)


def _weights(modules: tuple[Any, ...]) -> list[torch.Tensor]:
    return [weight for module in modules for weight in (module.weight, module.bias)]


def fused_encoder(model: Any) -> FusedEncoder | None:
    """Returns the fused forward pass of a classifier; None for a model of another architecture."""
    parts = encoder_parts(model)
    return None if parts is None else FusedEncoder(parts)


def encoder_parts(model: Any) -> EncoderParts | None:
    """Returns a classifier's parts; None where the fused layers do not compute what it does."""
    config = model.config
    find = {"bert": _bert, "roberta": _roberta, "distilbert": _distilbert}.get(config.model_type)
    activation = getattr(config, "hidden_act", getattr(config, "activation", None))
    if find is None or activation != "gelu" or getattr(config, "is_decoder", False):
        return None
    parts: EncoderParts = find(model)
    return parts if parts.layers else None


def _bert(model: Any) -> EncoderParts:
    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model.classifier(model.dropout(model.bert.pooler(hidden)))
        return logits

    return EncoderParts(**_bert_encoder(model.bert), head=head)


def _roberta(model: Any) -> EncoderParts:
    # Its positions begin after the padding's own.
    return EncoderParts(
        **_bert_encoder(model.roberta), head=model.classifier, first_position=model.config.pad_token_id + 1
    )


def _bert_encoder(encoder: Any) -> dict[str, Any]:
    return {
        "embeddings": encoder.embeddings,
        "layers": tuple(_bert_layer(layer) for layer in encoder.encoder.layer),
        "heads": encoder.config.num_attention_heads,
        "dropout": encoder.embeddings.dropout.p,
    }


def _bert_layer(layer: Any) -> LayerParts:
    own, out = layer.attention.self, layer.attention.output
    return LayerParts(
        attention=(own.query, own.key, own.value, out.dense, out.LayerNorm),
        feed_forward=(layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm),
        dropout=(own.dropout.p, out.dropout.p, layer.output.dropout.p),
    )


def _distilbert(model: Any) -> EncoderParts:
    def head(hidden: torch.Tensor) -> torch.Tensor:
        active = torch.nn.functional.relu(model.pre_classifier(hidden[:, 0]))
        logits: torch.Tensor = model.classifier(model.dropout(active))
        return logits

    encoder = model.distilbert
    return EncoderParts(
        embeddings=encoder.embeddings,
        layers=tuple(_distilbert_layer(layer) for layer in encoder.transformer.layer),
        heads=encoder.config.n_heads,
        head=head,
        dropout=encoder.embeddings.dropout.p,
    )


def _distilbert_layer(layer: Any) -> LayerParts:
    own = layer.attention
    return LayerParts(
        attention=(own.q_lin, own.k_lin, own.v_lin, own.out_lin, layer.sa_layer_norm),
        feed_forward=(layer.ffn.lin1, layer.ffn.lin2, layer.output_layer_norm),
        dropout=(own.dropout.p, 0.0, layer.ffn.dropout.p),
    )
