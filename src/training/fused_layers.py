"""The parts of a BERT encoder, each one step of autograd with its gradient written out.

Same mathematics as transformers' modules (fused_layers_test compares values and gradients), less work:
- Matrix products go to numpy's OpenBLAS. On matrices as small as these it is as fast as MKL at its best, takes strided
  heads as they lie, and keeps its speed where MKL has to be bit-identical on every CPU (`portable`: 100 against 38
  GFLOP/s on one Zen 4 core).
- Only the first token's output of the last layer is asked for, so only that is computed.
- Some 60 operations a layer instead of 200: half of a step on so little data was calling them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_ops: Any = torch.ops.aten
Mask = torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a layer has to know of itself besides its weights.

    Attributes:
        heads: attention heads.
        eps: of its normalisations.
    """

    heads: int
    eps: float


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.matmul(_array(left), _array(right)))


def _linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return _product(inputs, weight.t()).add_(bias)


def _masked(values: torch.Tensor, mask: Mask) -> torch.Tensor:
    return values if mask is None else values * mask


def _heads(values: torch.Tensor, *, rows: int, heads: int) -> np.ndarray:
    """Views [rows * tokens, width] as [rows, heads, tokens, width / heads]."""
    return _array(values).reshape(rows, -1, heads, values.shape[1] // heads).swapaxes(1, 2)


def _merged(left: np.ndarray, right: np.ndarray) -> torch.Tensor:
    """Multiplies by head and lays the heads side by side: [rows * tokens, width]."""
    rows, heads, tokens, size = *left.shape[:3], right.shape[-1]
    out = np.empty((rows, tokens, heads, size), np.float32)
    np.matmul(left, right, out=out.swapaxes(1, 2))
    return torch.from_numpy(out.reshape(rows * tokens, heads * size))


def _normalise(values: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float) -> tuple[torch.Tensor, ...]:
    """Returns the normalised values, and mean and 1 / deviation for the gradient."""
    out: tuple[torch.Tensor, ...] = _ops.native_layer_norm(values, values.shape[-1:], scale, shift, eps)
    return out


def _normalise_backward(gradient: torch.Tensor, values: torch.Tensor, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Returns the gradients of values, scale and shift; `saved`: mean, 1 / deviation, scale, shift."""
    out: tuple[torch.Tensor, ...] = _ops.native_layer_norm_backward(
        gradient, values, values.shape[-1:], *saved, [True, True, True]
    )
    return out


class Embedding(torch.autograd.Function):
    """Words + positions + types, normalised."""

    @staticmethod
    def forward(
        ctx: Any,
        words: torch.Tensor,
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
            words: rows of the word embedding [known, width].
            positions: the position embedding.
            types: the token-type embedding, if the model has one.
            where: ids, int64 [rows, tokens], into `words`; position of the first token; token types like ids or None
                for all 0; eps.
            mask: dropout's, [rows, tokens, width].
            scale: of the normalisation; shift likewise.
            shift: see scale.

        Returns:
            [rows, tokens, width].
        """
        ids, first, kinds, eps = where
        summed = words.index_select(0, ids.view(-1)).view(*ids.shape, -1)
        summed += positions[first : first + ids.shape[1]]
        if types is not None:
            summed += types[0] if kinds is None else types[kinds]
        out, mean, rate = _normalise(summed, scale, shift, eps)
        ctx.where, ctx.known, ctx.sizes = where, len(words), (len(positions), 0 if types is None else len(types))
        ctx.save_for_backward(summed, mean, rate, scale, shift, mask)
        return _masked(out, mask)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of words, positions, types, scale and shift."""
        summed, mean, rate, scale, shift, mask = ctx.saved_tensors
        ids, first, kinds, _ = ctx.where
        sums, d_scale, d_shift = _normalise_backward(_masked(gradient, mask), summed, mean, rate, scale, shift)
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
    """LayerNorm(x + dropout(attention(x))) of the first `asked` tokens of each row (Vaswani et al. 2017)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        asked: int,
        bias: torch.Tensor | None,
        masks: tuple[Mask, Mask],
        shape: Shape,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        """Attends.

        Args:
            ctx: autograd's.
            inputs: [rows, tokens, width].
            asked: tokens of each row whose output is wanted.
            bias: [rows, 1, 1, tokens], added to the scores: very negative where a token is padding.
            masks: dropout's for the probabilities [rows, heads, asked, tokens] and the output [rows * asked, width].
            shape: of the layer.
            *weights: weight and bias of query, key, value and output; scale and shift of the normalisation.

        Returns:
            [rows * asked, width].
        """
        wq, bq, wk, bk, wv, bv, wo, bo, scale, shift = weights
        rows, tokens, width = inputs.shape
        flat = inputs.view(-1, width)
        asking = flat if asked == tokens else inputs[:, :asked].reshape(-1, width)
        query = _linear(asking, wq, bq).mul_((width // shape.heads) ** -0.5)
        key, value = _linear(flat, wk, bk), _linear(flat, wv, bv)
        q, k, v = (_heads(part, rows=rows, heads=shape.heads) for part in (query, key, value))
        scores = torch.from_numpy(np.matmul(q, k.swapaxes(2, 3)))
        if bias is not None:
            scores += bias
        probabilities = _ops._softmax(scores, -1, False)
        used = _masked(probabilities, masks[0])
        mixed = _merged(_array(used), v)
        summed = _masked(_linear(mixed, wo, bo), masks[1]).add_(asking)
        out, mean, rate = _normalise(summed, scale, shift, shape.eps)
        ctx.heads, ctx.size, ctx.masks = shape.heads, inputs.shape, masks
        ctx.save_for_backward(
            flat,
            asking,
            query,
            key,
            value,
            probabilities,
            used,
            mixed,
            summed,
            mean,
            rate,
            wq,
            wk,
            wv,
            wo,
            scale,
            shift,
        )
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of the inputs and weights."""
        flat, asking, query, key, value, probabilities, used, mixed, summed, mean, rate, *weights = ctx.saved_tensors
        wq, wk, wv, wo, scale, shift = weights
        rows, tokens, width = ctx.size
        d_sum, d_scale, d_shift = _normalise_backward(gradient.contiguous(), summed, mean, rate, scale, shift)
        d_out = _masked(d_sum, ctx.masks[1])
        d_mixed = _product(d_out, wo)
        q, k, v, d_m = (_heads(part, rows=rows, heads=ctx.heads) for part in (query, key, value, d_mixed))
        d_used = torch.from_numpy(np.matmul(d_m, v.swapaxes(2, 3)))
        d_scores = _array(_ops._softmax_backward_data(_masked(d_used, ctx.masks[0]), probabilities, -1, torch.float32))
        d_value = _merged(_array(used).swapaxes(2, 3), d_m)
        d_key = _merged(d_scores.swapaxes(2, 3), q)
        d_query = _merged(d_scores, k).mul_((width // ctx.heads) ** -0.5)
        d_asking = _product(d_query, wq).add_(d_sum)
        d_inputs = _product(d_key, wk).add_(_product(d_value, wv)).view(rows, tokens, width)
        d_inputs[:, : len(asking) // rows] += d_asking.view(rows, -1, width)
        of_weights: list[torch.Tensor] = []
        for by, inputs in ((d_query, asking), (d_key, flat), (d_value, flat), (d_out, mixed)):
            of_weights += [_product(by.t(), inputs), by.sum(0)]
        return d_inputs, None, None, None, None, *of_weights, d_scale, d_shift


class FeedForward(torch.autograd.Function):
    """LayerNorm(x + dropout(W2 gelu(W1 x)))."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, mask: Mask, shape: Shape, *weights: torch.Tensor) -> torch.Tensor:
        """Computes the layer; inputs, mask and result are [tokens, width]."""
        w1, b1, w2, b2, scale, shift = weights
        hidden = _linear(inputs, w1, b1)
        active = _ops.gelu(hidden)
        summed = _masked(_linear(active, w2, b2), mask).add_(inputs)
        out, mean, rate = _normalise(summed, scale, shift, shape.eps)
        ctx.mask = mask
        ctx.save_for_backward(inputs, hidden, active, summed, mean, rate, w1, w2, scale, shift)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of the inputs and weights."""
        inputs, hidden, active, summed, mean, rate, w1, w2, scale, shift = ctx.saved_tensors
        d_sum, d_scale, d_shift = _normalise_backward(gradient.contiguous(), summed, mean, rate, scale, shift)
        d_out = _masked(d_sum, ctx.mask)
        d_hidden = _ops.gelu_backward(_product(d_out, w2), hidden)
        d_inputs = _product(d_hidden, w1).add_(d_sum)
        of_weights = (_product(d_hidden.t(), inputs), d_hidden.sum(0), _product(d_out.t(), active), d_out.sum(0))
        return d_inputs, None, None, *of_weights, d_scale, d_shift
