"""Whether a kind of model classifies texts at all, found out before the training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from src.cli.errors import RequestError, in_one_line
from src.training.model.inputs import input_names

# Of two lengths: one is padded.
_TEXTS = ("a good film", "a film that is neither good nor bad")


def check_classifies(model: Any, tokenizer: Any, *, name: str, max_seq_length: int) -> None:
    """Classifies two texts, in prediction and as training will. Model and random numbers stay as they were.

    Args:
        model: of transformers, with a head.
        tokenizer: that goes with it.
        name: what the message calls the model.
        max_seq_length: tokens to truncate to.

    Raises:
        RequestError: the model needs more than text (images, boxes), or cannot be computed here.
    """
    # A copy: what it truncates and pads to would be saved in tokenizer.json.
    tokenizer = copy.deepcopy(tokenizer)
    encoded = tokenizer(list(_TEXTS), truncation=True, max_length=max_seq_length, padding=True, return_tensors="pt")
    batch = {name: encoded[name] for name in input_names(model, tokenizer)}
    try:
        with _unchanged_buffers(model), torch.random.fork_rng(devices=()), torch.inference_mode():
            # Reformer's positions have more conditions in training.
            model.train()
            model(**batch)
            model.eval()
            logits = model(**batch).logits
        if logits.shape != (len(_TEXTS), model.config.num_labels):
            raise ValueError(f"its outputs for {len(_TEXTS)} texts are {list(logits.shape)}")
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError, ImportError) as error:
        reason = in_one_line(error, limit=300)
        raise RequestError(
            f"{name} ({model.config.model_type}) cannot classify texts: {reason}; choose another model"
        ) from error


@contextmanager
def _unchanged_buffers(model: Any) -> Iterator[None]:
    """Puts buffers back, which some kinds write in training: BatchNorm's in place, I-BERT's ranges by other tensors."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, content in before:
            module._buffers[name] = buffer
            if not torch.equal(buffer, content):
                buffer.copy_(content)
