"""An encoder's embeddings and the two halves of its layers, each one autograd function with its gradient written out.

Same mathematics as transformers' modules (layers_test compares values and gradients), less work: the last layer
computes the first token alone, which is all that is read of it, and fewer operations are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.training.fused.products import (
    Mask,
    array,
    by_head,
    linear,
    masked,
    merged,
    normalise,
    normalise_backward,
    product,
    weight_gradient,
)

_ops: Any = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a layer depends on besides its weights.

    Attributes:
        heads: attention heads.
        eps: of its normalisations.
    """

    heads: int
    eps: float


class Embedding(torch.autograd.Function):
    """Word, position and token-type embeddings, summed and normalised."""

    @staticmethod
    def forward(
        ctx: Any,
        embedding_rows: torch.Tensor,
        positions: torch.Tensor,
        types: torch.Tensor | None,
        where: tuple[torch.Tensor, int, torch.Tensor | None, float],
        mask: Mask,
        scale: torch.Tensor,
        shift: torch.Tensor,
    ) -> torch.Tensor:
        """Embeds a batch.

        Args:
            ctx: autograd's.
            embedding_rows: rows of the word embedding [known, width].
            positions: the position embedding.
            types: the token-type embedding, if the model has one.
            where: ids, int64 [rows, tokens], into `embedding_rows`; position of the first token; token types like ids,
                None: all 0; eps.
            mask: dropout's, [rows, tokens, width].
            scale: weight of the normalisation.
            shift: its bias.

        Returns:
            [rows, tokens, width].
        """
        ids, first, kinds, eps = where
        summed = embedding_rows.index_select(0, ids.view(-1)).view(*ids.shape, -1)
        summed += positions[first : first + ids.shape[1]]
        if types is not None:
            summed += types[0] if kinds is None else types[kinds]
        out, mean, rate = normalise(summed, scale, shift, eps)
        ctx.where, ctx.known = where, len(embedding_rows)
        ctx.sizes = len(positions), 0 if types is None else len(types)
        ctx.save_for_backward(summed, mean, rate, scale, shift, mask)
        return masked(out, mask)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Returns gradients of embedding rows, positions, types, scale and shift."""
        summed, mean, rate, scale, shift, mask = ctx.saved_tensors
        ids, first, kinds, _ = ctx.where
        sums, d_scale, d_shift = normalise_backward(masked(gradient, mask), summed, mean, rate, scale, shift)
        flat = sums.view(-1, sums.shape[-1])
        d_words = flat.new_zeros(ctx.known, flat.shape[1]).index_add_(0, ids.view(-1), flat)
        d_positions = flat.new_zeros(ctx.sizes[0], flat.shape[1])
        by_position = d_positions[first : first + ids.shape[1]]
        torch.sum(sums, 0, out=by_position)
        d_types = None
        if ctx.sizes[1]:
            d_types = flat.new_zeros(ctx.sizes[1], flat.shape[1])
            if kinds is None:
                torch.sum(by_position, 0, out=d_types[0])
            else:
                d_types.index_add_(0, kinds.view(-1), flat)
        return d_words, d_positions, d_types, None, None, d_scale, d_shift


class Attention(torch.autograd.Function):
    """LayerNorm(x + dropout(attention(x))) of the first `queries` tokens of each row (Vaswani et al. 2017)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        queries: int,
        bias: torch.Tensor | None,
        masks: tuple[Mask, Mask],
        shape: Shape,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        """Computes the attention half of a layer.

        Args:
            ctx: autograd's.
            inputs: [rows, tokens, width].
            queries: tokens of each row whose output is wanted.
            bias: [rows, 1, 1, tokens], added to the scores: very negative where a token is padding.
            masks: dropout's, for the probabilities [rows, heads, queries, tokens] and the output [rows * queries,
                width].
            shape: of the layer.
            *weights: weight and bias of query, key, value and output; scale and shift of the normalisation.

        Returns:
            [rows * queries, width].
        """
        wq, bq, wk, bk, wv, bv, wo, bo, scale, shift = weights
        rows, tokens, width = inputs.shape
        flat = inputs.view(-1, width)
        query_inputs = flat if queries == tokens else inputs[:, :queries].reshape(-1, width)
        query = linear(query_inputs, wq, bq).mul_((width // shape.heads) ** -0.5)
        key, value = linear(flat, wk, bk), linear(flat, wv, bv)
        q, k, v = (by_head(part, rows=rows, heads=shape.heads) for part in (query, key, value))
        scores = torch.from_numpy(np.matmul(q, k.swapaxes(2, 3)))
        if bias is not None:
            scores += bias
        probabilities = _ops._softmax(scores, -1, False)
        used = masked(probabilities, masks[0])
        mixed = merged(array(used), v)
        summed = masked(linear(mixed, wo, bo), masks[1]).add_(query_inputs)
        out, mean, rate = normalise(summed, scale, shift, shape.eps)
        ctx.heads, ctx.size, ctx.masks = shape.heads, inputs.shape, masks
        saved = (flat, query_inputs, query, key, value, probabilities, used, mixed, summed, mean, rate)
        ctx.save_for_backward(*saved, wq, wk, wv, wo, scale, shift)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Returns gradients of inputs and weights."""
        flat, query_inputs, query, key, value, probabilities, used, mixed, summed, mean, rate, *weights = (
            ctx.saved_tensors
        )
        wq, wk, wv, wo, scale, shift = weights
        rows, tokens, width = ctx.size
        d_sum, d_scale, d_shift = normalise_backward(gradient.contiguous(), summed, mean, rate, scale, shift)
        d_out = masked(d_sum, ctx.masks[1])
        d_mixed = product(d_out, wo)
        q, k, v, d_m = (by_head(part, rows=rows, heads=ctx.heads) for part in (query, key, value, d_mixed))
        d_used = torch.from_numpy(np.matmul(d_m, v.swapaxes(2, 3)))
        d_scores = array(_ops._softmax_backward_data(masked(d_used, ctx.masks[0]), probabilities, -1, torch.float32))
        d_value = merged(array(used).swapaxes(2, 3), d_m)
        d_key = merged(d_scores.swapaxes(2, 3), q)
        d_query = merged(d_scores, k).mul_((width // ctx.heads) ** -0.5)
        d_query_inputs = product(d_query, wq).add_(d_sum)
        d_inputs = product(d_key, wk).add_(product(d_value, wv)).view(rows, tokens, width)
        d_inputs[:, : len(query_inputs) // rows] += d_query_inputs.view(rows, -1, width)
        of_weights: list[torch.Tensor] = []
        for weight, by, inputs in (
            (wq, d_query, query_inputs), (wk, d_key, flat), (wv, d_value, flat), (wo, d_out, mixed)
        ):  # fmt: skip
            of_weights += [weight_gradient(weight, by, inputs), by.sum(0)]
        return d_inputs, None, None, None, None, *of_weights, d_scale, d_shift


class FeedForward(torch.autograd.Function):
    """LayerNorm(x + dropout(W2 gelu(W1 x)))."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, mask: Mask, shape: Shape, *weights: torch.Tensor) -> torch.Tensor:
        """Computes the feed-forward half of a layer; inputs, mask and result are [tokens, width]."""
        w1, b1, w2, b2, scale, shift = weights
        hidden = linear(inputs, w1, b1)
        active = _ops.gelu(hidden)
        summed = masked(linear(active, w2, b2), mask).add_(inputs)
        out, mean, rate = normalise(summed, scale, shift, shape.eps)
        ctx.mask = mask
        ctx.save_for_backward(inputs, hidden, active, summed, mean, rate, w1, w2, scale, shift)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Returns gradients of inputs and weights."""
        inputs, hidden, active, summed, mean, rate, w1, w2, scale, shift = ctx.saved_tensors
        d_sum, d_scale, d_shift = normalise_backward(gradient.contiguous(), summed, mean, rate, scale, shift)
        d_out = masked(d_sum, ctx.mask)
        d_hidden = _ops.gelu_backward(product(d_out, w2), hidden)
        d_inputs = product(d_hidden, w1).add_(d_sum)
        d_w1, d_w2 = weight_gradient(w1, d_hidden, inputs), weight_gradient(w2, d_out, active)
        return d_inputs, None, None, d_w1, d_hidden.sum(0), d_w2, d_out.sum(0), d_scale, d_shift
