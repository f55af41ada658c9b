"""Writes a Llama with random weights, for a build that trains it: tiny_chat_model DIR

Without torch: it takes a second, and numpy's random numbers are the same with any instruction set.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from src.disk.durable import write_json
from src.training.gguf.architecture import weights_of
from src.training.testing.tiny_kinds import build_tiny_chat_tokenizer


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    folder = Path(arguments[0])
    tokenizer = build_tiny_chat_tokenizer()
    tokenizer.save_pretrained(folder)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "dtype": "float32",
    }
    write_json(folder / "config.json", config)
    random = np.random.default_rng(0)
    weights = {
        weight.name: random.normal(1.0 if len(weight.shape) == 1 else 0.0, 0.02, weight.shape).astype(np.float32)
        for weight in weights_of(config)
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
