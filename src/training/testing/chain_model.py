"""A Llama that says what a test tells it to: the next token is a function of the last one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_chain_model(
    folder: Path, texts: Iterable[str], *, tokenizer: PreTrainedTokenizerBase, positions: int = 64
) -> Path:
    """Writes a model that continues each of some texts from each of its tokens on; returns the folder.

    Args:
        folder: to create.
        texts: no token may stand before two different ones in them.
        tokenizer: to save with it.
        positions: tokens it can read.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width = len(tokenizer) + len(tokenizer) % 2
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # The layer adds nothing to the token's own unit vector.
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight.fill_diagonal_(1)
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False).input_ids
            model.lm_head.weight[ids[1:], ids[:-1]] = 1
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
