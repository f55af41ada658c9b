"""An encoder's embeddings as one step of autograd, with the gradient written out."""

from __future__ import annotations

from typing import Any

import torch

from src.training.fused.products import Mask, masked, normalise, normalise_backward


class Embedding(torch.autograd.Function):
    """Words + positions + types, normalised."""

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
        summed = embedding_rows.index_select(0, ids.view(-1)).view(*ids.shape, -1)
        summed += positions[first : first + ids.shape[1]]
        if types is not None:
            summed += types[0] if kinds is None else types[kinds]
        out, mean, rate = normalise(summed, scale, shift, eps)
        ctx.where, ctx.known, ctx.sizes = (
            where,
            len(embedding_rows),
            (len(positions), 0 if types is None else len(types)),
        )
        ctx.save_for_backward(summed, mean, rate, scale, shift, mask)
        return masked(out, mask)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of words, positions, types, scale and shift."""
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
