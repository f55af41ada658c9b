"""What llama.cpp is told of a Llama, against what transformers does with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from src.cli.errors import RequestError
from src.training.gguf.architecture import config_of, metadata_of, rope_factors

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
KEYS: dict[str, Any] = {
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
    "llama.block_count": 2,
    "llama.context_length": 8192,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 64,
}


def test_frequencies_are_divided_by_what_transformers_divides_them_by() -> None:
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, rope_parameters=LLAMA3)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 500000.0 ** (np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(rope_factors(LLAMA3, head_dim=64), plain / scaled.numpy(), rtol=1e-5)


def read(keys: dict[str, Any], factors: np.ndarray | None = None) -> dict[str, Any]:
    return config_of({**KEYS, **keys}, tensors=set(), rows=100, rope_factors=factors)


def test_llama_3_is_known_by_its_factors() -> None:
    found = read({"llama.rope.freq_base": 500000.0}, rope_factors(LLAMA3, head_dim=64))
    assert found["rope_parameters"] == LLAMA3
    with pytest.raises(RequestError, match="its rotary positions are scaled by factors of its own"):
        read({"llama.rope.freq_base": 500000.0}, np.linspace(1, 7, 32, dtype=np.float32))


def test_a_float32_is_written_as_the_number_that_it_stands_for() -> None:
    assert read({})["rms_norm_eps"] == 1e-05


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"llama.rope.dimension_count": 32}, "only a part of each head is rotated"),
        ({"llama.expert_count": 8}, "it is a mixture of experts"),
        ({"llama.rope.scaling.type": "yarn"}, "its rotary positions are scaled yarn"),
    ],
)
def test_what_transformers_llama_cannot_do_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read(keys)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"rope_parameters": {**LLAMA3, "rope_type": "yarn"}}, "its rotary positions are scaled yarn"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        metadata_of({**read({}), **changed})
