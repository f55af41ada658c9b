"""What a trained model is made of, what it says of a sample, and whether its saved files say the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from src.training.model.inputs import input_names

# A pair is made of both.
_SAMPLE, _SECOND = "This movie was really good!", "I liked the film."

log = logging.getLogger("finetune")


def show_architecture(model: Any) -> None:
    """Prints the model's type and how many parameters it has."""
    log.info("Model type: %s", type(model).__name__)
    log.info("Total parameters: %s", f"{model.num_parameters():,}")
    log.info("Trainable parameters: %s", f"{model.num_parameters(only_trainable=True):,}")


def predict_sample(model: Any, tokenizer: Any, *, class_names: Sequence[str], pair: bool) -> torch.Tensor:
    """Prints what a model says of one text, or one pair of texts.

    Args:
        model: is left in evaluation mode.
        tokenizer: of the model.
        class_names: by index; none in a regression.
        pair: whether the model reads pairs.

    Returns:
        Its logits, float32 [outputs].
    """
    model.eval()
    texts = (_SAMPLE, _SECOND) if pair else (_SAMPLE,)
    encoded = tokenizer(*texts, return_tensors="pt").to(model.device)
    given = {name: encoded[name] for name in input_names(model, tokenizer)}
    with torch.inference_mode():
        logits: torch.Tensor = model(**given).logits[0].cpu()
    log.info("Test text: %s", " with ".join(f"'{text}'" for text in texts))
    if class_names:
        log.info("Predicted class: %s", class_names[int(logits.argmax())])
    else:
        log.info("Predicted value: %.4f", float(logits))
    return logits


def verify_saved(folder: Path, expected: torch.Tensor, *, class_names: Sequence[str], pair: bool, device: Any) -> None:
    """Loads saved files as a user would; they must answer as the model in memory did.

    Args:
        folder: of the files.
        expected: what `predict_sample` returned.
        class_names: by index; none in a regression.
        pair: whether the model reads pairs.
        device: where `expected` was computed.

    Raises:
        RuntimeError: they do not.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).to(device)
    logits = predict_sample(model, AutoTokenizer.from_pretrained(folder), class_names=class_names, pair=pair)
    if not torch.allclose(logits, expected, atol=1e-5):
        raise RuntimeError("the saved model does not answer as the trained one did: nothing was kept")
    log.info("Loaded model parameters: %s: it answers as before", f"{model.num_parameters():,}")
