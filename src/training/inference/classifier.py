"""A trained classifier in memory: texts in, scores out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from src.cli.errors import RequestError
from src.cli.working_folder import working_folder
from src.training.inference.model_folder import TrainedModel
from src.training.inference.pairs import Text
from src.training.model.adapter_base import find_adapter_base, load_adapted_classifier
from src.training.model.inputs import input_names
from src.training.model.lora import has_adapter_alone
from src.training.model.pretrained import check_token_ids, load_model, load_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model in memory, in evaluation mode, on the CPU."""

    source: TrainedModel
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in the order of the model's arguments."""
        return input_names(self.model, self.tokenizer)

    def scores(self, texts: Sequence[Text], *, batch_size: int) -> np.ndarray:
        """Returns the scores of texts; see `logits` and `to_scores`."""
        return to_scores(self.logits(texts, batch_size=batch_size), self.model.config)

    def logits(self, texts: Sequence[Text], *, batch_size: int) -> np.ndarray:
        """Runs the model on texts in order of length, so that there is little padding.

        Args:
            texts: at least one; single texts or pairs.
            batch_size: texts per batch.

        Returns:
            float32 [texts, outputs], in the order of the texts.
        """
        import torch

        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.source.max_seq_length)
        order = sorted(range(len(texts)), key=lambda row: len(encoded["input_ids"][row]))
        logits = np.empty((len(texts), len(self.source.class_names)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                logits[rows] = self.model(**self._pad(encoded, rows)).logits.numpy()
        return logits

    def batches(self, texts: Sequence[Text], *, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
        """Yields the model's inputs by name, int64 [texts, tokens], in the order of the texts."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.source.max_seq_length)
        for start in range(0, len(texts), batch_size):
            yield self._pad(encoded, range(start, min(start + batch_size, len(texts))))

    def _pad(self, encoded: Any, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        batch = {name: [encoded[name][row] for row in rows] for name in self.input_names}
        return dict(self.tokenizer.pad(batch, return_tensors="pt"))

    def score_batch(self, batch: dict[str, torch.Tensor]) -> np.ndarray:
        """Scores one batch: float32 [texts, classes]."""
        import torch

        with torch.inference_mode():
            return to_scores(self.model(**batch).logits.numpy(), self.model.config)


def to_scores(logits: np.ndarray, config: Any) -> np.ndarray:
    """Turns a model's outputs into scores, as transformers' text-classification pipeline does.

    Args:
        logits: float32 [texts, outputs].
        config: the model's; its problem_type decides.

    Returns:
        float32 [texts, outputs]: probabilities that add up to 1; independent ones for a model with one output or with
        many labels; the outputs themselves for a regression.
    """
    if config.problem_type == "regression":
        return logits
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def load_classifier(source: TrainedModel, *, attention: str | None = None) -> Classifier:
    """Loads a trained model. Only safetensors are read: nothing in the folder is run.

    Args:
        source: what `find_trained_model` found.
        attention: transformers' implementation of attention; None: the fastest that the model has.

    Raises:
        RequestError: the files are not such a model, or lack some of its weights.
    """
    import torch

    tokenizer = load_tokenizer(source.folder)
    if has_adapter_alone(source.folder):
        base = find_adapter_base(source.folder, user_folder=working_folder())
        adapted = load_adapted_classifier(base, source.folder, attn_implementation=attention)
        return Classifier(source=source, model=adapted.merge_and_unload().eval(), tokenizer=tokenizer)
    model, loading = load_model(
        source.folder, dtype=torch.float32, attn_implementation=attention, output_loading_info=True
    )
    if missing := sorted(loading["missing_keys"]):
        # transformers fills them with random numbers, and the scores would look like any others.
        raise RequestError(f"{source.folder} lacks weights of its model ({', '.join(missing[:3])}): train it again")
    check_token_ids(model, tokenizer, name=source.folder)
    return Classifier(source=source, model=model.eval(), tokenizer=tokenizer)
