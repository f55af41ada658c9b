"""The limit is that of the model that transformers builds from the config."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from src.training.model.max_tokens import max_tokens

POSITIONS = 20
SIZES: dict[str, Any] = {
    **{"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
    **{"max_position_embeddings": POSITIONS, "attention_window": 4, "pad_token_id": 1, "languages": ["en_XX"]},
    "default_language": "en_XX",
}


@pytest.mark.parametrize(
    ("model_type", "readable"),
    [
        *((name, POSITIONS) for name in ("bert", "distilbert", "electra", "gpt2")),
        *((name, POSITIONS - 2) for name in ("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke")),
        *((name, POSITIONS - 2) for name in ("markuplm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta")),
        *((name, POSITIONS - 2) for name in ("xlm-roberta-xl", "xmod")),
    ],
)
def test_a_model_reads_as_many_tokens_and_not_one_more(model_type: str, readable: int) -> None:
    config = AutoConfig.for_model(model_type, **SIZES)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert max_tokens(config.to_dict()) == readable
    with torch.inference_mode():
        model(torch.full((1, readable), 5))
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(torch.full((1, readable + 1), 5))


@pytest.mark.parametrize("config", [{}, {"max_position_embeddings": -1}, {"max_position_embeddings": None}])
def test_a_model_without_absolute_positions_reads_any_number_of_tokens(config: dict[str, Any]) -> None:
    assert max_tokens(config) is None


def test_the_padding_token_of_such_models_is_1_unless_the_config_says_otherwise() -> None:
    assert max_tokens({"model_type": "roberta", "max_position_embeddings": 514}) == 512
    assert max_tokens({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 3}) == 510
