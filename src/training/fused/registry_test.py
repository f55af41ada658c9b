"""Which models are fused: all others are left to their own code."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from src.training.fused.registry import fuse
from src.training.testing.random_classifiers import KINDS, PAD, POSITIONS, VOCABULARY, build

torch.set_num_threads(1)


def test_other_kinds_of_models_have_none() -> None:
    import transformers

    small: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 1,
        "num_attention_heads": 3, "max_position_embeddings": POSITIONS, "pad_token_id": PAD,
    }  # fmt: skip
    special: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    for config in (transformers.ModernBertConfig(**small, **special), transformers.ElectraConfig(**small)):
        assert fuse(transformers.AutoModelForSequenceClassification.from_config(config)) is None, config.model_type


def test_other_settings_have_none() -> None:
    assert fuse(build("bert", hidden_act="gelu_new")) is None
    assert fuse(build("distilbert", activation="relu")) is None
    assert fuse(build("bert", is_decoder=True)) is None
    assert fuse(build("roberta", layers=0)) is None


def test_a_model_with_adapters_has_none() -> None:
    from peft import LoraConfig, get_peft_model

    # They are zero, and the fused layers, which know nothing of them, would give the same logits.
    assert fuse(get_peft_model(build("bert"), LoraConfig(task_type="SEQ_CLS", target_modules="all-linear"))) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_have_none(dtype: torch.dtype) -> None:
    assert fuse(torch.nn.Module.to(build("bert"), dtype)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_answers_otherwise_is_left_to_its_own_code(kind: str) -> None:
    model = build(kind)
    assert fuse(model) is not None
    layer = model.distilbert.transformer.layer[1].ffn if kind == "distilbert" else getattr(model, kind).encoder.layer[1]
    layer.register_forward_hook(lambda _module, _inputs, output: output * 1.1)
    assert fuse(model) is None


def test_a_model_that_answers_nothing_is_left_to_its_own_code() -> None:
    model = build("bert")
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    assert fuse(model) is None
