"""A language model's epoch by our loop and by peft with transformers' Trainer, on the same rows."""

from __future__ import annotations

import copy
import cProfile
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments
from transformers import Trainer as TransformersTrainer

from src.training.benchmarks.memory_peak import MemoryPeak
from src.training.benchmarks.peak_flops import training_flops_a_token
from src.training.benchmarks.step_parts import step_shares
from src.training.data.batches import epoch_batches
from src.training.data.token_rows import TokenRows
from src.training.engine.checkpoints import Checkpoints
from src.training.engine.data_parallel import TRAIN
from src.training.engine.trainer import Trainer
from src.training.environment.stop_signal import StopSignal
from src.training.fused.decoder import find_decoder
from src.training.model.lora import without_adapter
from src.training.run.language_kind import LanguageKind
from src.training.run.resolved_run import ResolvedRun

# torch's cross entropy leaves these out.
_NOT_LEARNT = -100
_TRAINER, _SAME_BATCHES, _OURS = "peft_trainer", "peft_trainer_same_batches", "ours"


@dataclass(kw_only=True)
class Epoch:
    """What came of an epoch.

    Attributes:
        seconds: from the start of the first step to the end of the last.
        losses: of each step's batch, before the step.
    """

    seconds: float = 0.0
    losses: list[float]


class LanguageContest:
    """Loops that start from the same weights.

    `peft_trainer` draws batches by chance and pads them, as Trainer and TRL's SFTTrainer do by default;
    `peft_trainer_same_batches` is given those of our loop, so that the losses of all steps have to agree.
    """

    names = (_TRAINER, _SAME_BATCHES, _OURS)
    # Ours first: it encodes the rows.
    _turns = names[::-1]

    def __init__(self, resolved: ResolvedRun, *, scratch: Path) -> None:
        """Loads the model; `scratch` is for what Trainer writes.

        Raises:
            RequestError: the model cannot be loaded.
        """
        self._resolved, self._scratch = resolved, scratch
        self._kind = LanguageKind(resolved)
        self._model, self._tokenizer = self._kind.build()
        self._model.config.use_cache = False
        self.rows: TokenRows | None = None

    def memory_peaks(self) -> dict[str, int]:
        """Trains an epoch by each loop; returns bytes at the peak, above what this process held before, by loop.

        Its seconds count for nothing: what looks at the memory slows a loop by a third.
        """
        peaks = {}
        for name in self._turns:
            with MemoryPeak() as peak:
                self._epoch(name)
            peaks[name] = peak.bytes
        return peaks

    def take_turns(self, *, rounds: int) -> dict[str, list[Epoch]]:
        """Trains an epoch by each loop, by turns; returns the epochs by loop."""
        epochs: dict[str, list[Epoch]] = {name: [] for name in self.names}
        for _ in range(rounds):
            for name in self._turns:
                epochs[name].append(self._epoch(name))
        return epochs

    def _epoch(self, name: str) -> Epoch:
        return self._ours() if name == _OURS else self._reference(same_batches=name == _SAME_BATCHES)

    def step_shares(self) -> dict[str, float]:
        """Trains a further epoch by our loop; returns where its steps' time goes in this process."""
        profile = cProfile.Profile()
        self._ours(profile)
        return step_shares(profile)

    def flops_an_epoch(self) -> float:
        """Returns the operations that an epoch needs, the head's only for what is learnt; after the first epoch."""
        assert self.rows is not None
        head = self._model.get_output_embeddings().weight.numel()
        tokens, learnt = int(self.rows.lengths.sum()), int(self.rows.labels.sum())
        below = find_decoder(without_adapter(self._model)) or self._model
        return training_flops_a_token(below) * tokens + 4.0 * head * learnt

    def product_shapes(self) -> list[tuple[int, int, int]]:
        """Returns rows, inner and columns of the layers' products in one process; after the first epoch."""
        tokens = round(self._resolved.training_settings.rows_per_step * self.tokens_a_row() / self._resolved.threads)
        weights = (layer.weight for layer in self._model.modules() if type(layer) is torch.nn.Linear)
        # Those of LoRA are thin, and the head is none of the layers.
        inside = {tuple(weight.shape) for weight in weights if not weight.requires_grad}
        head = tuple(self._model.get_output_embeddings().weight.shape)
        return [(tokens, inner, columns) for columns, inner in sorted(inside - {head})]

    def tokens_a_row(self) -> float:
        """Mean tokens of a train row, padding aside; after the first epoch."""
        assert self.rows is not None
        return round(float(self.rows.lengths.mean()), 2)

    def _ours(self, profile: cProfile.Profile | None = None) -> Epoch:
        torch.set_num_threads(1)
        stop, ends, losses = _FirstCheck(), [0.0], list[float]()

        def show(_state: Any, loss: float) -> None:
            ends.append(time.perf_counter())
            losses.append(loss)

        model = copy.deepcopy(self._model)
        with self._kind.data_parallel(model, self._tokenizer, is_stopping=lambda: False) as parallel:
            rows = parallel.splits[TRAIN]
            assert isinstance(rows, TokenRows)
            self.rows = rows
            trainer = Trainer(
                data_parallel=parallel, scored_split=self._resolved.task.validation.split, selects_epoch=False,
                stop=stop, record=lambda _event: None,
                checkpoints=Checkpoints(self._scratch / "checkpoints", fingerprint="benchmark"),
            )  # fmt: skip
            trainer.fit(show) if profile is None else profile.runcall(trainer.fit, show)
        return Epoch(seconds=ends[-1] - stop.at, losses=losses)

    def _reference(self, *, same_batches: bool) -> Epoch:
        assert self.rows is not None
        torch.set_num_threads(self._resolved.threads)
        settings = self._resolved.training_settings
        batches = None
        if same_batches:
            batches = epoch_batches(self.rows.lengths, batch_size=settings.rows_per_step, seed=settings.seed, epoch=0)
        clock = _Clock()
        trainer = _Reference(
            model=copy.deepcopy(self._model),
            args=TrainingArguments(
                output_dir=str(self._scratch / "trainer"), report_to=[], disable_tqdm=True, use_cpu=True,
                bf16=self._resolved.recipe.bf16,
                save_strategy="no", logging_steps=1, label_names=["labels"], num_train_epochs=1,
                remove_unused_columns=False, optim="adamw_torch_fused", seed=settings.seed,
                per_device_train_batch_size=settings.per_device_train_batch_size,
                gradient_accumulation_steps=settings.gradient_accumulation_steps,
                learning_rate=settings.learning_rate, lr_scheduler_type=settings.lr_scheduler_type,
                weight_decay=settings.weight_decay, max_grad_norm=settings.max_grad_norm,
            ),
            train_dataset=_Rows(self.rows),
            data_collator=_collate(self.rows.pad_id),
            callbacks=[clock],
        )  # fmt: skip
        trainer.batches = batches
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return Epoch(seconds=clock.last - clock.first, losses=losses)


def summary(
    epochs: dict[str, list[Epoch]],
    *,
    memory_peaks: dict[str, int],
    rows: int,
    tokens_a_row: float,
    seconds_at_peak: float,
) -> dict[str, Any]:
    """Returns medians by loop, and how far the losses of the same batches lie apart at most.

    Args:
        epochs: by loop.
        memory_peaks: of LanguageContest.memory_peaks.
        rows: of an epoch.
        tokens_a_row: mean, padding aside.
        seconds_at_peak: that an epoch's products would take at the processor's peak.
    """
    ours = statistics.median(epoch.seconds for epoch in epochs[_OURS])
    loops = {}
    for name, all_ in epochs.items():
        seconds = statistics.median(epoch.seconds for epoch in all_)
        loops[name] = {
            "seconds": round(seconds, 2),
            "seconds_of_each": [round(epoch.seconds, 2) for epoch in all_],
            "rows_per_second": round(rows / seconds, 3),
            "tokens_per_second": round(rows * tokens_a_row / seconds, 1),
            "fraction_of_peak": round(seconds_at_peak / seconds, 4),
            "times_ours": round(seconds / ours, 2),
            "peak_memory_mb": round(memory_peaks[name] / 1e6),
            "losses": [round(loss, 4) for loss in all_[-1].losses],
        }
    differences = np.subtract(epochs[_SAME_BATCHES][-1].losses, epochs[_OURS][-1].losses)
    return {"loops": loops, "greatest_difference_of_losses": float(np.abs(differences).max().round(6))}


class _FirstCheck(StopSignal):
    """Notes when the loop first asks whether to stop: before its first step."""

    def __init__(self) -> None:
        super().__init__(deadline_seconds=None)
        self.at = 0.0

    def check(self) -> None:
        self.at = self.at or time.perf_counter()
        super().check()


class _Clock(TrainerCallback):
    """Notes when the first step began and the last one ended."""

    first = last = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.first = self.first or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.last = time.perf_counter()


class _Reference(TransformersTrainer):
    """Trainer, with its own batches or with given ones."""

    batches: Sequence[np.ndarray] | None = None

    def get_train_dataloader(self) -> Any:
        if self.batches is None:
            return super().get_train_dataloader()
        lists = [batch.tolist() for batch in self.batches]
        return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=lists, collate_fn=self.data_collator)  # type: ignore[arg-type]


class _Rows(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Ids and labels of rows, int64 [tokens] each."""

    def __init__(self, rows: TokenRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(*self._rows.starts[row : row + 2])
        ids = self._rows.ids[part].astype(np.int64)
        return torch.from_numpy(ids), torch.from_numpy(np.where(self._rows.learnt[part], ids, _NOT_LEARNT))


def _collate(pad_id: int) -> Callable[[Any], dict[str, torch.Tensor]]:
    """Returns what pads rows on the right to the longest of a batch, as TRL's collator does."""

    def collate(rows: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        ids, labels = ([row[part] for row in rows] for part in (0, 1))
        pad = torch.nn.utils.rnn.pad_sequence
        return {
            "input_ids": pad(ids, batch_first=True, padding_value=pad_id),
            "labels": pad(labels, batch_first=True, padding_value=_NOT_LEARNT),
            "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
        }

    return collate
