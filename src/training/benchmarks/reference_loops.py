"""The loops that the benchmark measures against, by transformers' own Trainer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from src.training.data.rows import Examples

_TUTORIAL_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class ReferenceLoop:
    """How a Trainer is set up.

    Attributes:
        pad_to: tokens that every row is padded to; None: to the longest of its batch.
        arguments: of TrainingArguments, besides those that all loops share.
    """

    name: str
    pad_to: int | None
    arguments: dict[str, Any]


# The tutorial's train_model.py: every row padded to 128 tokens, the default optimizer.
TUTORIAL = ReferenceLoop(name="tutorial", pad_to=_TUTORIAL_LENGTH, arguments={})
# The same without the padding, to compare accuracies in less time.
TUTORIAL_UNPADDED = ReferenceLoop(name="tutorial_unpadded", pad_to=None, arguments={})
# The best that transformers offers against padding and slow optimizers.
TRANSFORMERS_BEST = ReferenceLoop(
    name="transformers_best",
    pad_to=None,
    arguments={"train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"},
)


class _Clock(TrainerCallback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.ends.append(time.perf_counter())


class EncodedDataset:
    """Rows as Trainer takes them."""

    def __init__(self, rows: Examples, *, tokenizer: Any, loop: ReferenceLoop) -> None:
        """Tokenises every row."""
        padding = {"padding": "max_length"} if loop.pad_to else {}
        encoded = tokenizer(list(rows.texts), truncation=True, max_length=_TUTORIAL_LENGTH, **padding)
        self._rows = [
            {**{name: values[at] for name, values in encoded.items()}, "labels": label}
            for at, label in enumerate(rows.labels)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self._rows[row]


def build_trainer(
    loop: ReferenceLoop, *, model: Any, tokenizer: Any, train: Any, scored: Any, folder: Path, **arguments: Any
) -> Trainer:
    """Builds the Trainer of a loop.

    Args:
        loop: which one.
        model: a classifier.
        tokenizer: its tokenizer.
        train: EncodedDataset to learn from.
        scored: EncodedDataset scored after each epoch, or None.
        folder: for its checkpoints.
        **arguments: further TrainingArguments.
    """
    settings = TrainingArguments(
        output_dir=str(folder), report_to=[], disable_tqdm=True, use_cpu=True, logging_strategy="no",
        weight_decay=0.01, **{"save_strategy": "no", **loop.arguments, **arguments},
    )  # fmt: skip
    collator = default_data_collator if loop.pad_to else DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model=model, args=settings, train_dataset=train, eval_dataset=scored, data_collator=collator)
    # Standard output is the benchmark's JSON.
    trainer.remove_callback(PrinterCallback)
    return trainer


def seconds_a_step(trainer: Trainer, *, skip: int) -> list[float]:
    """Trains; returns the time from one step's end to the next, without the first `skip` steps."""
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.train()
    return [after - before for before, after in zip(clock.ends[skip:], clock.ends[skip + 1 :], strict=False)]
