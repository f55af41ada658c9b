"""A trained model's architecture, its answer for a sample, and whether its saved files give the same answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from src.cli.errors import RequestError
from src.training.evaluation.problem import Problem
from src.training.model.inputs import input_names
from src.training.model.pretrained import load_model, load_tokenizer

# A pair is made of both.
_SAMPLE, _SECOND = "This movie was really good!", "I liked the film."

log = logging.getLogger("finetune")


def show_architecture(model: Any) -> None:
    """Prints the model's type and how many parameters it has."""
    log.info("Model type: %s", type(model).__name__)
    log.info("Total parameters: %s", f"{model.num_parameters():,}")
    log.info("Trainable parameters: %s", f"{model.num_parameters(only_trainable=True):,}")


def predict_sample(model: Any, tokenizer: Any, *, problem: Problem, pair: bool) -> torch.Tensor:
    """Prints a model's answer for one text, or one pair of texts.

    Args:
        model: is left in evaluation mode.
        tokenizer: of the model.
        problem: what the model was trained for.
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
    log.info("%s", problem.answer(logits))
    return logits


def verify_saved(
    folder: Path,
    expected: torch.Tensor,
    *,
    load: Callable[[Path], Any] = load_model,
    problem: Problem,
    pair: bool,
    device: Any,
) -> None:
    """Loads saved files as a user would; their answer must be that of the model in memory.

    Args:
        folder: of the files.
        expected: what `predict_sample` returned.
        load: of the model.
        problem: what the model was trained for.
        pair: whether the model reads pairs.
        device: where `expected` was computed.

    Raises:
        RuntimeError: they do not.
    """
    try:
        model, tokenizer = load(folder).to(device), load_tokenizer(folder)
    except RequestError as error:
        # Nobody asked for anything wrong.
        raise RuntimeError(f"{error}: nothing was kept") from error
    logits = predict_sample(model, tokenizer, problem=problem, pair=pair)
    # Merged into the weights an adapter is rounded otherwise than beside them.
    if not torch.allclose(logits, expected, rtol=1e-4, atol=1e-5):
        raise RuntimeError("the saved model does not answer as the trained one did: nothing was kept")
    log.info("Loaded model parameters: %s: it answers as before", f"{model.num_parameters():,}")
