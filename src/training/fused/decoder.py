"""A decoder of Llama's kind with frozen weights, each layer one autograd operation with its gradient written out.

The tokens of a batch lie one behind the other, without padding: the prefix that all rows share, then each row's own.
So each product is one for the whole batch. Of the last layer only what is read is computed. Same mathematics as
transformers' modules and peft's (decoder_test compares values and gradients).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from src.training.data.batches import Batch
from src.training.fused.attention import Attention, Layout
from src.training.fused.layer_cache import LayerCache
from src.training.fused.linear import Projection, forward_all, has_dropout, known_projection, projection

_ops: Any = torch.ops.aten
# Of transformers: classes whose layers are the one below.
_KINDS = ("LlamaModel", "MistralModel", "Qwen2Model")


class FusedDecoder:
    """Computes the outputs of a decoder's last layer where they are wanted."""

    def __init__(self, decoder: Any) -> None:
        """Takes a decoder for which `can_fuse` is true."""
        self._decoder = decoder

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Returns the outputs at the targets of a batch of TokenRows.batch, normalised, [targets, width]."""
        prefix, ids, (row, column) = batch["prefix"], batch["input_ids"], batch["targets"].unbind(1)
        start = prefix.shape[1]
        # What follows a row's last target is read by nothing: its last token, and padding.
        lengths = torch.zeros(len(ids), dtype=torch.int64).scatter_reduce_(0, row, column + 1, "amax")
        own = torch.arange(ids.shape[1]) < lengths[:, None]
        wanted = start + (lengths.cumsum(0) - lengths)[row] + column
        positions = torch.cat([torch.arange(start), own.nonzero()[:, 1] + start])
        layout = Layout(prefix=start, lengths=tuple(lengths.tolist()))
        tokens = torch.cat([prefix[0], ids[own]])
        return self.outputs(tokens, positions, [(layer, layout) for layer in self.layers()], wanted=wanted)

    def grow(self, prompts: Sequence[Sequence[int]], *, shared: int) -> GrowingRows:
        """Reads prompts that begin with so many shared tokens; see CausalForward.grow."""
        return GrowingRows(self, prompts, shared=shared)

    def layers(self) -> list[LayerWeights]:
        """Returns the layers as they are now."""
        return [*map(LayerWeights.of, self._decoder.layers)]

    def outputs(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        layers: Sequence[tuple[LayerWeights, Attention]],
        *,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Computes tokens that lie one behind the other.

        Args:
            tokens: int64 [tokens].
            positions: theirs, int64 [tokens].
            layers: with what their queries attend to.
            wanted: places of the tokens whose outputs are wanted, int64; None: all.

        Returns:
            The outputs wanted, normalised, [wanted, width].
        """
        hidden = self._decoder.embed_tokens(tokens)
        cos, sin = (part[0] for part in self._decoder.rotary_emb(hidden, positions[None]))
        config = self._decoder.config
        query_turn = Rotation.of(cos, sin, heads=config.num_attention_heads, scale=cos.shape[1] ** -0.5)
        key_turn = Rotation.of(cos, sin, heads=config.num_key_value_heads)
        for above, (layer, attention) in zip(reversed(range(len(layers))), layers, strict=True):
            kept = None if above else wanted
            places = Places(attention=attention, query_turn=query_turn, key_turn=key_turn, kept=kept)
            hidden = DecoderLayer.apply(hidden, layer, places, *layer.trained)
        normed: torch.Tensor = self._decoder.norm(hidden)
        return normed


class GrowingRows:
    """Rows that grow token by token, their keys and values kept; see causal.GrowingRows."""

    def __init__(self, decoder: FusedDecoder, prompts: Sequence[Sequence[int]], *, shared: int) -> None:
        self._decoder, self._shared = decoder, shared
        own = [prompt[shared:] for prompt in prompts]
        self._lengths = np.array([*map(len, own)])
        layout = Layout(prefix=shared, lengths=tuple(self._lengths.tolist()))
        # Nothing is trained while rows grow.
        self._layers = [(layer, LayerCache(layout)) for layer in decoder.layers()]
        tokens = torch.tensor([*prompts[0][:shared], *chain(*own)])
        positions = torch.tensor([*range(shared), *chain(*(range(shared, len(prompt)) for prompt in prompts))])
        ends = torch.from_numpy(shared + self._lengths.cumsum() - 1)
        self.outputs = decoder.outputs(tokens, positions, self._layers, wanted=ends)

    def select(self, chosen: Sequence[int]) -> None:
        """Leaves all rows but some, by their places."""
        self._lengths = self._lengths[chosen]
        for _, cache in self._layers:
            cache.select(chosen)

    def extend(self, tokens: Sequence[int]) -> None:
        """Computes the outputs of a further token of each row."""
        self._lengths += 1
        positions = torch.from_numpy(self._shared + self._lengths - 1)
        seen = [(layer, cache.following(self._lengths)) for layer, cache in self._layers]
        self.outputs = self._decoder.outputs(torch.tensor(tokens), positions, seen)


def find_decoder(model: Any) -> Any:
    """Returns what is below the head of a language model of transformers; None: it is not known."""
    return getattr(model, model.base_model_prefix, None)


def can_decode(decoder: Any) -> bool:
    """Whether a decoder has the layers below, on a CPU: they compute it where nothing is dropped, without gradients."""
    return (
        type(decoder).__name__ in _KINDS
        and decoder.config.hidden_act == "silu"
        and all(projection(module) is not None for layer in decoder.layers for module in _linear_layers(layer))
    )


def can_fuse(decoder: Any) -> bool:
    """Whether the layers below train a decoder too: nothing of it but adapters, and without dropout."""
    return (
        can_decode(decoder)
        and not getattr(decoder.config, "attention_dropout", 0)
        and all(_is_adapter(name) or not weight.requires_grad for name, weight in decoder.named_parameters())
        and not any(has_dropout(module) for layer in decoder.layers for module in _linear_layers(layer))
    )


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _linear_layers(layer: Any) -> tuple[Any, ...]:
    attention, feed = layer.self_attn, layer.mlp
    return (
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(feed.gate_proj, feed.up_proj, feed.down_proj),
    )


@dataclass(frozen=True, kw_only=True)
class Norm:
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467): x / rms(x) times a frozen scale."""

    scale: torch.Tensor
    eps: float

    def rate(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns 1 / rms, [tokens, 1]."""
        return inputs.pow(2).mean(-1, keepdim=True).add_(self.eps).rsqrt_()

    def forward(self, inputs: torch.Tensor, rate: torch.Tensor) -> np.ndarray:
        """Returns the normalised inputs."""
        return (inputs * rate).mul_(self.scale).numpy()

    def backward(self, gradient: np.ndarray, inputs: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """Returns the inputs' gradient."""
        by, unit = torch.from_numpy(gradient) * self.scale, inputs * rate
        return by.sub_(unit.mul_((by * unit).mean(-1, keepdim=True))).mul_(rate)


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """What a layer computes with."""

    before_attention: Norm
    before_feed_forward: Norm
    query: Projection
    key: Projection
    value: Projection
    out: Projection
    gate: Projection
    up: Projection
    down: Projection
    size: int

    @classmethod
    def of(cls, layer: Any) -> LayerWeights:
        """Reads a layer of transformers, as it is now: weights may have moved, adapters may be disabled."""
        query, key, value, out, gate, up, down = map(known_projection, _linear_layers(layer))
        first, second = (
            Norm(scale=norm.weight.detach(), eps=norm.variance_epsilon)
            for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        return cls(
            before_attention=first, before_feed_forward=second, query=query, key=key, value=value, out=out,
            gate=gate, up=up, down=down, size=layer.self_attn.head_dim,
        )  # fmt: skip

    @property
    def trained(self) -> list[torch.Tensor]:
        """The adapters' weights, in the order in which `DecoderLayer` returns gradients."""
        parts = (self.query, self.key, self.value, self.out, self.gate, self.up, self.down)
        return [weight for part in parts for weight in part.trained]


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Turns heads by angles that their positions decide (Su et al. 2021, arXiv:2104.09864).

    Attributes:
        cos: of each place's angle, [tokens, width].
        sin: the same; below 0 in a head's first half.
        size: of a head.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    size: int

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor, *, heads: int, scale: float = 1.0) -> Rotation:
        """Takes cos and sin as transformers has them, [tokens, size], for so many heads; scale: of the result."""
        size = cos.shape[1]
        signs = torch.tensor([-scale, scale]).repeat_interleave(size // 2)
        return cls(cos=(cos * scale).repeat(1, heads), sin=(sin * signs).repeat(1, heads), size=size)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Turns [tokens, width]."""
        given = torch.from_numpy(values)
        return (given * self.cos).add_(self._halves_swapped(given).mul_(self.sin)).numpy()

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """Turns a gradient back."""
        by = torch.from_numpy(gradient)
        return (by * self.cos).sub_(self._halves_swapped(by).mul_(self.sin)).numpy()

    def _halves_swapped(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(len(values), -1, self.size).roll(self.size // 2, -1).view(values.shape)


@dataclass(frozen=True, kw_only=True)
class Places:
    """What a layer knows of the tokens.

    Attributes:
        attention: to which tokens they attend.
        query_turn: of their positions, and scales the queries for their products with the keys.
        key_turn: of their positions.
        kept: the tokens whose output is wanted; None: all.
    """

    attention: Attention
    query_turn: Rotation
    key_turn: Rotation
    kept: torch.Tensor | None = None


class DecoderLayer(torch.autograd.Function):
    """x + attention(norm(x)), and to that the feed-forward part of its norm."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, layer: LayerWeights, places: Places, *trained: torch.Tensor
    ) -> torch.Tensor:
        """Computes it; inputs: [tokens, width]; trained: layer.trained, for autograd. Returns [tokens kept, width]."""
        del trained
        rate = layer.before_attention.rate(inputs)
        normed = layer.before_attention.forward(inputs, rate)
        (query, query_low), (key, key_low), (value, value_low) = forward_all(
            (layer.query, layer.key, layer.value), normed
        )
        heads = key.shape[1] // layer.size
        query = _by_head(places.query_turn.forward(query), heads, layer.size)
        key = _by_head(places.key_turn.forward(key), heads, layer.size)
        value = _by_head(value, heads, layer.size)
        mixed = _side_by_side(places.attention.attend(query, key, value), len(inputs))
        summed = inputs
        if places.kept is not None:
            mixed, summed = mixed[places.kept.numpy()], inputs[places.kept]
        attended, out_low = layer.out.forward(mixed)
        summed = torch.from_numpy(attended).add_(summed)
        rate_2 = layer.before_feed_forward.rate(summed)
        normed = layer.before_feed_forward.forward(summed, rate_2)
        (gate, gate_low), (up, up_low) = forward_all((layer.gate, layer.up), normed)
        fed, down_low = layer.down.forward(_gated(gate, up))
        ctx.layer, ctx.places = layer, places
        ctx.kept = (inputs, rate, query, key, value, mixed, summed, rate_2, gate, up)
        ctx.low = (query_low, key_low, value_low, out_low, gate_low, up_low, down_low)
        return torch.from_numpy(fed).add_(summed)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Returns gradients of inputs and what is trained."""
        layer, places = ctx.layer, ctx.places
        inputs, rate, query, key, value, mixed, summed, rate_2, gate, up = ctx.kept
        query_low, key_low, value_low, out_low, gate_low, up_low, down_low = ctx.low
        # What is no longer needed is freed before the layer below is computed.
        ctx.kept = ctx.low = None
        by = gradient.contiguous()
        d_active, *of_down = layer.down.backward(by.numpy(), _gated(gate, up), down_low)
        d_gate, d_up = _gated_backward(d_active, gate, up)
        normed = layer.before_feed_forward.forward(summed, rate_2)
        d_normed, *of_gate = layer.gate.backward(d_gate, normed, gate_low)
        d_by_up, *of_up = layer.up.backward(d_up, normed, up_low)
        d_normed += d_by_up
        d_summed = layer.before_feed_forward.backward(d_normed, summed, rate_2).add_(by)
        d_mixed, *of_out = layer.out.backward(d_summed.numpy(), mixed, out_low)
        if places.kept is not None:
            d_mixed = _spread(torch.from_numpy(d_mixed), places.kept, len(inputs)).numpy()
            d_summed = _spread(d_summed, places.kept, len(inputs))
        parts = places.attention.attend_backward(_by_head(d_mixed, len(key), layer.size), query, key, value)
        d_query, d_key, d_value = (_side_by_side(part, len(inputs)) for part in parts)
        d_query = places.query_turn.backward(d_query)
        d_key = places.key_turn.backward(d_key)
        normed = layer.before_attention.forward(inputs, rate)
        needs_input = ctx.needs_input_grad[0]
        d_normed, *of_query = layer.query.backward(d_query, normed, query_low, needs_input=needs_input)
        d_by_key, *of_key = layer.key.backward(d_key, normed, key_low, needs_input=needs_input)
        d_by_value, *of_value = layer.value.backward(d_value, normed, value_low, needs_input=needs_input)
        d_inputs = None
        if needs_input:
            d_normed += d_by_key
            d_normed += d_by_value
            d_inputs = layer.before_attention.backward(d_normed, inputs, rate).add_(d_summed)
        return d_inputs, None, None, *of_query, *of_key, *of_value, *of_out, *of_gate, *of_up, *of_down


def _by_head(values: np.ndarray, heads: int, size: int) -> np.ndarray:
    """Lays [tokens, width] as [heads, tokens * group, size]: as many heads as keys have, each read by a group."""
    by_head = np.ascontiguousarray(values.reshape(len(values), heads, -1).swapaxes(0, 1))
    return by_head.reshape(heads, -1, size)


def _side_by_side(values: np.ndarray, tokens: int) -> np.ndarray:
    """Lays what `_by_head` returned as [tokens, width]."""
    return values.reshape(len(values), tokens, -1).swapaxes(0, 1).reshape(tokens, -1)


def _gated(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Returns silu(gate) * up (Shazeer 2020, arXiv:2002.05202)."""
    return _ops.silu(torch.from_numpy(gate)).mul_(torch.from_numpy(up)).numpy()


def _gated_backward(gradient: np.ndarray, gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gradients of gate and up."""
    by, gates = torch.from_numpy(gradient), torch.from_numpy(gate)
    d_up = _ops.silu(gates).mul_(by)
    return _ops.silu_backward(by * torch.from_numpy(up), gates).numpy(), d_up.numpy()


def _spread(values: torch.Tensor, places: torch.Tensor, tokens: int) -> torch.Tensor:
    """Returns the values at their places among so many tokens, 0 elsewhere."""
    out = values.new_zeros(tokens, values.shape[1])
    out[places] = values
    return out
