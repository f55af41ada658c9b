"""Small classifiers of the kinds that fused layers stand for, all of whose weights are random: for tests."""

from __future__ import annotations

from typing import Any

import torch

KINDS = ("bert", "roberta", "distilbert")
VOCABULARY, POSITIONS, PAD = 53, 20, 1


def build(kind: str, *, layers: int = 2, dropout: float = 0.0, labels: int = 3, **settings: Any) -> Any:
    """Builds a classifier in training mode; biases and scales are random too.

    Args:
        kind: out of KINDS.
        layers: of the encoder.
        dropout: probability; of attention's half of it, of the head's 0.
        labels: classes.
        **settings: further ones of its configuration.
    """
    import transformers

    common: dict[str, Any] = {
        "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "pad_token_id": PAD, "num_labels": labels,
        "attn_implementation": "eager",
    }  # fmt: skip
    sizes: dict[str, Any] = {
        "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": layers, "num_attention_heads": 3,
        "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout / 2, "classifier_dropout": 0.0,
        "type_vocab_size": 1 if kind == "roberta" else 2,
    }  # fmt: skip
    if kind == "distilbert":
        sizes = {
            "dim": 24, "hidden_dim": 36, "n_layers": layers, "n_heads": 3,
            "dropout": dropout, "attention_dropout": dropout / 2, "seq_classif_dropout": 0.0,
        }  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, **common, **sizes, **settings)
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    return model.train()
