"""A Llama in llama.cpp's terms and in transformers': names and shapes of its tensors, and its config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.cli.errors import RequestError

# transformers' name by llama.cpp's: outside of the layers, and in each of them.
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Frequencies of rotary positions are divided by its values.
ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One tensor of a Llama.

    Attributes:
        gguf: its name in llama.cpp.
        name: its name in transformers.
        shape: of both.
        heads: number of heads whose rows llama.cpp orders differently (queries and keys); 0: the order is the same.
    """

    gguf: str
    name: str
    shape: tuple[int, ...]
    heads: int = 0

    def to_gguf(self, values: np.ndarray) -> np.ndarray:
        """Reorders the rows from transformers' order, which has the two halves of a head one after the other."""
        return self._reordered(values, parts=(2, -1))

    def from_gguf(self, values: np.ndarray) -> np.ndarray:
        """Reorders the rows from llama.cpp's order, which rotates neighbours."""
        return self._reordered(values, parts=(-1, 2))

    def _reordered(self, values: np.ndarray, *, parts: tuple[int, int]) -> np.ndarray:
        if not self.heads:
            return values
        return values.reshape(self.heads, *parts, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def weights_of(config: dict[str, Any]) -> Iterator[Weight]:
    """Yields the tensors of the Llama with this config.json."""
    width, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    queries, keys = heads * config["head_dim"], key_heads * config["head_dim"]
    shapes = {
        "token_embd": (rows, width),
        "output_norm": (width,),
        "output": (rows, width),
        "attn_norm": (width,),
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_norm": (width,),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    reordered = {"attn_q": heads, "attn_k": key_heads}

    def weight(name: str, theirs: str, *, prefix: str = "", their_prefix: str = "") -> Iterator[Weight]:
        kinds = {"weight": shapes[name]}
        if (config["attention_bias"] and name.startswith("attn_") and name != "attn_norm") or (
            config["mlp_bias"] and name.startswith("ffn_") and name != "ffn_norm"
        ):
            kinds["bias"] = shapes[name][:1]
        for kind, shape in kinds.items():
            yield Weight(
                gguf=f"{prefix}{name}.{kind}",
                name=f"{their_prefix}{theirs}.{kind}",
                shape=shape,
                heads=reordered.get(name, 0),
            )

    for name, theirs in _OUTER.items():
        if name != "output" or not config["tie_word_embeddings"]:
            yield from weight(name, theirs)
    for layer in range(config["num_hidden_layers"]):
        for name, theirs in _INNER.items():
            yield from weight(name, theirs, prefix=f"blk.{layer}.", their_prefix=f"model.layers.{layer}.")


def config_of(
    metadata: dict[str, Any], *, tensors: set[str], rows: int, rope_factors: np.ndarray | None
) -> dict[str, Any]:
    """Returns the config.json of the Llama that a GGUF file's metadata describe.

    Args:
        metadata: of the file.
        tensors: names of its tensors.
        rows: of its embeddings.
        rope_factors: values of ROPE_FACTORS; None: the file has none.

    Raises:
        RequestError: it has what transformers' Llama has not, or lacks a key.
    """
    keys = {name.removeprefix("llama."): value for name, value in metadata.items() if name.startswith("llama.")}
    heads, width = keys["attention.head_count"], keys["embedding_length"]
    head_dim = keys.get("attention.key_length", width // heads)
    if keys.get("rope.dimension_count", head_dim) != head_dim:
        raise RequestError("only a part of each head is rotated, which transformers' Llama cannot do")
    if keys.get("expert_count"):
        raise RequestError("it is a mixture of experts, which transformers' Llama is not")
    special = {
        f"{name}_token_id": metadata[f"tokenizer.ggml.{key}_token_id"]
        for name, key in {"bos": "bos", "eos": "eos", "pad": "padding"}.items()
        if f"tokenizer.ggml.{key}_token_id" in metadata
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "attention_dropout": 0.0,
        "dtype": "float32",
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": keys["feed_forward_length"],
        "max_position_embeddings": keys["context_length"],
        "mlp_bias": "blk.0.ffn_gate.bias" in tensors,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": keys["block_count"],
        "num_key_value_heads": keys.get("attention.head_count_kv", heads),
        # The shortest number that is this float32: 1e-05 in place of 9.999999747378752e-06.
        "rms_norm_eps": float(str(np.float32(keys["attention.layer_norm_rms_epsilon"]))),
        "rope_parameters": _rope_parameters(keys, rope_factors, head_dim=head_dim),
        "tie_word_embeddings": "output.weight" not in tensors,
        "use_cache": True,
        "vocab_size": rows,
        **special,
    }


def _rope_parameters(keys: dict[str, Any], factors: np.ndarray | None, *, head_dim: int) -> dict[str, Any]:
    theta = float(str(np.float32(keys.get("rope.freq_base", 10000.0))))
    kind = keys.get("rope.scaling.type", "none")
    if factors is not None:
        # Llama 3.1 and its successors: what they were trained with is known, but for the factor.
        parameters = {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": float(factors.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        if np.allclose(rope_factors(parameters, head_dim=head_dim), factors, rtol=1e-4):
            return parameters
        kind = "by factors of its own"
    if kind == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": float(keys["rope.scaling.factor"])}
    if kind != "none":
        raise RequestError(f"its rotary positions are scaled {kind}, which is not supported")
    return {"rope_type": "default", "rope_theta": theta}


def rope_factors(parameters: dict[str, Any], *, head_dim: int) -> np.ndarray:
    """Returns what llama.cpp divides each frequency by, float32 [head_dim / 2], for rope_type llama3."""
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    wavelengths = 2 * np.pi * parameters["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    turns = parameters["original_max_position_embeddings"] / wavelengths
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / parameters["factor"] + smooth)).astype(np.float32)


def metadata_of(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of a GGUF file, without their `llama.`, for the Llama with this config.json.

    Raises:
        RequestError: llama.cpp cannot run it.
    """
    rope = config["rope_parameters"]
    if config["hidden_act"] != "silu":
        raise RequestError(f"its activation is {config['hidden_act']}, and llama.cpp's Llama has silu")
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise RequestError(f"its rotary positions are scaled {rope['rope_type']}, which is not supported")
    scaling = {}
    if rope["rope_type"] == "linear":
        scaling = {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": config["head_dim"],
        "rope.freq_base": float(rope["rope_theta"]),
        **scaling,
    }
