"""Logits with a prefix computed once are those of whole rows, one by one, for models of many kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from src.training.data.batches import Batch
from src.training.data.token_rows import TokenRows
from src.training.fused.causal import CausalForward

torch.set_num_threads(1)

VOCABULARY = 50
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "gpt_neox": {},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 32, "dropout": 0.0},
    "bloom": {},
}
# What the others do is whole rows: neighbours that leave the window, or positions that a mask decides.
SHARING = ("llama", "qwen2", "gpt2", "gpt_neox", "opt")


def build(kind: str) -> Any:
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        **({} if kind in ("gpt2", "opt", "bloom") else {"intermediate_size": 48}),
        **SIZES[kind],
    }
    config = AutoConfig.for_model(
        kind, vocab_size=VOCABULARY, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


def rows(*, prefix: int) -> TokenRows:
    """Three rows of unlike length that begin with the same tokens."""
    draw = np.random.default_rng(0)
    begins = draw.integers(3, VOCABULARY, prefix)
    whole = [np.concatenate([begins, [3 + row], draw.integers(3, VOCABULARY, 3 + 2 * row)]) for row in range(3)]
    ends = np.cumsum([0, *map(len, whole)])
    # The first two tokens after the prefix are the prompt's.
    learnt = np.concatenate([np.arange(len(row)) >= prefix + 2 for row in whole])
    return TokenRows(
        ids=np.concatenate(whole).astype(np.int32),
        starts=ends.astype(np.int64),
        learnt=learnt,
        labels=np.array([len(row) - prefix - 2 for row in whole], np.int64),
        pad_id=0,
    )


def one_by_one(model: Any, encoded: TokenRows) -> torch.Tensor:
    """Logits before each learnt token, each row by itself and whole: [labels, vocabulary]."""
    found = []
    for start, stop in zip(encoded.starts[:-1], encoded.starts[1:], strict=True):
        ids = torch.from_numpy(encoded.ids[start:stop].astype(np.int64))
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        found.append(logits[:-1][torch.from_numpy(encoded.learnt[start + 1 : stop])])
    return torch.cat(found)


def gradients(model: Any, logits: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
    return [*torch.autograd.grad(loss, [parameter for parameter in model.parameters() if parameter.requires_grad])]


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("prefix", [6, 0])
def test_logits_and_gradients_are_those_of_whole_rows(kind: str, prefix: int) -> None:
    model = build(kind)
    forward = CausalForward(model)
    assert forward.shares_prefix == (kind in SHARING)
    encoded = rows(prefix=prefix)
    batch = encoded.batch([0, 1, 2])
    assert batch["prefix"].shape[1] == prefix and "attention_mask" in batch
    ours, theirs = forward(batch), one_by_one(model, encoded)
    scale = float(theirs.detach().abs().max())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * scale)
    for mine, its in zip(gradients(model, ours, batch), gradients(model, theirs, batch), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-3 * float(its.abs().max()) + 1e-7)


def test_a_model_whose_answers_differ_with_a_prefix_computes_whole_rows() -> None:
    model = build("llama")
    decoder = model.model
    usual = decoder.forward

    def forgets(*arguments: Any, past_key_values: Any = None, **more: Any) -> Any:
        del past_key_values
        return usual(*arguments, **more)

    decoder.forward = forgets
    model.train()
    # Its signature hides what it takes, too; the comparison is what finds it.
    forward = CausalForward(model)
    assert not forward.shares_prefix and model.training
    encoded = rows(prefix=6)
    batch = encoded.batch([0, 1, 2])
    torch.testing.assert_close(forward(batch), one_by_one(model, encoded), rtol=1e-4, atol=1e-4)


def test_the_last_logits_are_those_after_the_row() -> None:
    model = build("llama").eval()
    ids = torch.arange(3, 9)
    with torch.no_grad():
        torch.testing.assert_close(CausalForward(model).last_logits(ids), model(ids[None]).logits[0, -1])
