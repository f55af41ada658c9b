"""Which of a tokenizer's outputs a model reads."""

from __future__ import annotations

from typing import Any

import pytest

from src.training.model.inputs import reads_token_types
from src.training.testing.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(build_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.mark.parametrize(
    ("kind", "settings", "reads"),
    [
        ("bert", {}, True),
        ("bert", {"type_vocab_size": 1}, False),
        ("distilbert", {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}, False),
        ("roberta", {}, False),
    ],
)
def test_token_types_are_for_models_that_have_a_place_for_them(
    tokenizer: Any, kind: str, settings: dict[str, Any], reads: bool
) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification, RobertaTokenizer

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model(kind, vocab_size=100, **(settings if "dim" in settings else small | settings))
    model = AutoModelForSequenceClassification.from_config(config)
    # Of DistilBERT, transformers' own choice is the tokenizer of BERT.
    assert reads_token_types(model, RobertaTokenizer if kind == "roberta" else tokenizer) is reads
