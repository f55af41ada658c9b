"""A language model's logits where they are wanted, with the beginning that all rows of a batch share computed once.

The saving is exact, not an approximation: the prefix' keys and values are the same in every row (Prefix Grouper,
arXiv:2506.05433, does so on GPUs), and a place without a loss needs no logits.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from src.training.data.batches import Batch
from src.training.fused.decoder import FusedDecoder, can_decode, can_fuse, find_decoder
from src.training.fused.dropout import DropoutMasks

# transformers' own kernels differ from one another by about a tenth of it.
_TOLERANCE = 1e-3

log = logging.getLogger(__name__)


class CausalForward:
    """Computes the logits of a batch of `TokenRows`; see registry.FusedModel."""

    def __init__(self, model: Any) -> None:
        """Compares both ways of computing a small batch; a model whose answers differ gets the plain one.

        Args:
            model: a language model of transformers, or peft's around it.
        """
        self._model = model
        self._plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._decoder = find_decoder(self._plain)
        # The same layers: for training, and where nothing is dropped or trained.
        self._fused: FusedDecoder | None = None
        # With more threads a product is MKL's, which knows how to divide it.
        self._decoding: FusedDecoder | None = None
        self.shares_prefix = self._can_share_prefix() and self._agrees()
        if self.shares_prefix and can_decode(self._decoder):
            self._fused = FusedDecoder(self._decoder)
            self._decoding = self._fused if self._agrees() else None
            self._fused = self._decoding if can_fuse(self._decoder) else None
            if torch.get_num_threads() > 1:
                self._decoding = None
        if not self.shares_prefix:
            log.info("This %s computes every row and place: slower, same results", self._plain.config.model_type)

    @property
    def is_fused(self) -> bool:
        """Whether the layers are the fused ones."""
        return self._fused is not None

    def __call__(
        self, batch: Batch, *, embedding_rows: torch.Tensor | None = None, masks: DropoutMasks | None = None
    ) -> torch.Tensor:
        """Returns the logits that predict the batch's labels, [labels, vocabulary]."""
        del embedding_rows, masks
        return self._shared(batch) if self.shares_prefix else self._whole(batch)

    def _shared(self, batch: Batch) -> torch.Tensor:
        if self._fused is not None:
            return self.logits(self._fused(batch))
        rows, columns = batch["targets"].unbind(1)
        ids, start = batch["input_ids"], batch["prefix"].shape[1]
        cache = self.prefix_cache(batch["prefix"], rows=len(ids)) if start else None
        positions = torch.arange(start, start + ids.shape[1])[None].expand(len(ids), -1)
        hidden = self.hidden(ids, positions=positions, mask=batch.get("attention_mask"), cache=cache)
        # An index of both: its gradient is one scatter, and only these places meet the head.
        return self.logits(hidden[rows, columns])

    def grow(self, prompts: Sequence[Sequence[int]], *, shared: int) -> GrowingRows:
        """Reads prompts, to be continued token by token; only if `shares_prefix`, and in evaluation mode.

        Args:
            prompts: token ids of each.
            shared: tokens that all begin with, fewer than any has.
        """
        if self._decoding is not None:
            return self._decoding.grow(prompts, shared=shared)
        return CachedRows(self, prompts, shared=shared)

    def prefix_cache(self, prefix: torch.Tensor, *, rows: int) -> Any:
        """Returns keys and values of a prefix, int64 [1, tokens] of perhaps none, as a cache of that many rows."""
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        if prefix.shape[1]:
            self._decoder(input_ids=prefix, past_key_values=cache, use_cache=True)
        for layer in cache.layers:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
        return cache

    def hidden(
        self, ids: torch.Tensor, *, positions: torch.Tensor, mask: torch.Tensor | None, cache: Any | None
    ) -> torch.Tensor:
        """Returns the last layer's outputs, [rows, tokens, width].

        Args:
            ids: int64 [rows, tokens].
            positions: of the tokens, int64 [rows, tokens].
            mask: int64 [rows, cached tokens + tokens], 0 where a token is padding; None: nothing is.
            cache: of the tokens before; these are added.
        """
        hidden: torch.Tensor = self._decoder(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the logits [..., vocabulary] of outputs of the last layer [..., width]."""
        logits: torch.Tensor = self._plain.get_output_embeddings()(hidden)
        return logits

    def last_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns the logits after a whole row, int64 [tokens], computed by itself: [vocabulary]."""
        logits: torch.Tensor = self._model(input_ids=ids[None], use_cache=False, logits_to_keep=1).logits[0, -1]
        return logits

    def _whole(self, batch: Batch) -> torch.Tensor:
        prefix = batch["prefix"].expand(len(batch["input_ids"]), -1)
        rows, columns = batch["targets"].unbind(1)
        logits: torch.Tensor = self._model(
            input_ids=torch.cat([prefix, batch["input_ids"]], 1),
            attention_mask=batch.get("attention_mask"),
            use_cache=False,
        ).logits
        return logits[rows, columns + prefix.shape[1]]

    def _can_share_prefix(self) -> bool:
        config = self._plain.config
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        # A window would begin within the prefix.
        windows = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        if self._decoder is None or self._plain.get_output_embeddings() is None:
            return False
        takes = inspect.signature(self._decoder.forward).parameters
        return kinds == {"full_attention"} and not windows and {"position_ids", "past_key_values"} <= takes.keys()

    def _agrees(self) -> bool:
        batch = _sample(self._plain.config.vocab_size)
        training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                whole = self._whole(batch)
                difference = (self._shared(batch) - whole).abs().max()
        except (TypeError, AttributeError, IndexError, RuntimeError):
            # A cache or a signature of its own.
            return False
        finally:
            self._model.train(training)
        return bool(difference < _TOLERANCE * max(1.0, float(whole.abs().max())))


class GrowingRows(Protocol):
    """Rows whose further tokens are computed one at a time, what was read before being kept.

    Attributes:
        outputs: the last layer's at each row's last token, [rows, width].
    """

    outputs: torch.Tensor

    def select(self, chosen: Sequence[int]) -> None:
        """Leaves all rows but some, by their places; `outputs` are those of the next `extend`."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Computes the outputs of a further token of each row."""


class CachedRows:
    """See GrowingRows: by transformers' layers and cache."""

    def __init__(self, forward: CausalForward, prompts: Sequence[Sequence[int]], *, shared: int) -> None:
        self._forward = forward
        self._lengths = torch.tensor([*map(len, prompts)])
        longest = int(self._lengths.max())
        # Padded on the right: where a row's padding ends its answer begins, and the mask tells them apart.
        ids = torch.zeros(len(prompts), longest - shared, dtype=torch.int64)
        for place, prompt in zip(ids, prompts, strict=True):
            place[: len(prompt) - shared] = torch.tensor(prompt[shared:])
        self._mask = (torch.arange(longest) < self._lengths[:, None]).long()
        prefix = torch.tensor([prompts[0][:shared]], dtype=torch.int64)
        self._cache = forward.prefix_cache(prefix, rows=len(prompts))
        positions = torch.arange(shared, longest)[None].expand(len(prompts), -1)
        hidden = forward.hidden(ids, positions=positions, mask=self._mask, cache=self._cache)
        self.outputs = hidden[torch.arange(len(prompts)), self._lengths - shared - 1]

    def select(self, chosen: Sequence[int]) -> None:
        """See GrowingRows.select."""
        places = torch.tensor(chosen)
        self._cache.batch_select_indices(places)
        self._mask, self._lengths = self._mask[places], self._lengths[places]

    def extend(self, tokens: Sequence[int]) -> None:
        """See GrowingRows.extend."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        positions, ids = self._lengths[:, None], torch.tensor(tokens)[:, None]
        self._lengths = self._lengths + 1
        self.outputs = self._forward.hidden(ids, positions=positions, mask=self._mask, cache=self._cache)[:, 0]


def _sample(vocabulary: int) -> Batch:
    """Returns two rows with a prefix, one of them padded."""
    ids = torch.arange(3, 11).reshape(2, 4) % vocabulary
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 6:] = 0
    targets = torch.tensor([[0, 0], [0, 2], [1, 1]])
    return {
        "prefix": torch.arange(11, 14)[None] % vocabulary,
        "input_ids": ids,
        "attention_mask": mask,
        "targets": targets,
        "labels": torch.zeros(3, dtype=torch.int64),
    }
