"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from src.training.batching import EncodedRows, epoch_batches
from src.training.checkpoints import Checkpoints
from src.training.early_stopping import early_stop, epochs_without_progress, is_out_of_patience
from src.training.epoch_choice import merit
from src.training.errors import StopRequested
from src.training.objective import PLAIN_CLASSIFICATION, Objective
from src.training.optim import Optimizer
from src.training.recipe import Recipe
from src.training.run_options import CHECKPOINT_SECONDS
from src.training.runtime import StopSignal
from src.training.scoring import evaluate, on_device

_EVENTS_A_RUN = 200

log = logging.getLogger("finetune")


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; what a checkpoint holds besides weights."""

    step: int = 0
    seconds: float = 0.0
    examples: int = 0
    tokens: int = 0
    epochs_scored: int = 0
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    best_epoch: int = 0
    epochs_without_progress: int = 0


@dataclass(kw_only=True)
class Trainer:
    """One run of the loop.

    Attributes:
        objective: what is minimised.
        is_done: whether training has ended, and the weights to keep are in the model.
        chooses: whether scores on `scored` decide which epoch's weights are kept.
        record: takes one event, for events.jsonl.
        checkpoint_seconds: time from one checkpoint to the next.
    """

    model: torch.nn.Module
    recipe: Recipe
    train: EncodedRows
    scored: EncodedRows
    scored_split: str
    class_names: Sequence[str]
    chooses: bool
    checkpoints: Checkpoints
    stop: StopSignal
    record: Callable[[dict[str, Any]], None]
    objective: Objective = PLAIN_CLASSIFICATION
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    progress: Progress = field(default_factory=Progress)

    is_done: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.steps_an_epoch = math.ceil(len(self.train) / self.recipe.per_device_train_batch_size)
        self.steps = math.ceil(self.recipe.num_train_epochs * self.steps_an_epoch)
        self.optimizer = Optimizer(self.model, self.recipe, steps=self.steps)
        self._best: dict[str, torch.Tensor] = {}
        self._device = next(self.model.parameters()).device
        self._loss_sum, self._loss_count = 0.0, 0
        self._started = self._saved = self._rate = 0.0

    def fit(self, show: Callable[[Progress, float], None] = lambda _progress, _loss: None) -> None:
        """Trains from where `progress` stands to the end.

        Args:
            show: told of `progress` and the loss after each step.

        Raises:
            StopRequested: a signal or the deadline came; a checkpoint is saved.
        """
        self._saved = time.monotonic()
        self._started = self._saved - self.progress.seconds
        with self.stop.deferred():
            try:
                while self._goes_on():
                    self._train_epoch(self.progress.epochs_scored, show)
                    self._end_epoch(self.progress.epochs_scored + 1)
            except StopRequested:
                self.save()
                raise
            self._keep_best()
            self.is_done = True

    def _goes_on(self) -> bool:
        """Whether there is another epoch to train and to score."""
        now = self.progress
        if now.epochs_scored == math.ceil(self.steps / self.steps_an_epoch):
            return False
        return not is_out_of_patience(self.recipe, epochs=now.epochs_without_progress)

    def _train_epoch(self, epoch: int, show: Callable[[Progress, float], None]) -> None:
        """Takes the steps of an epoch that are not taken yet."""
        batches = self._batches(epoch)
        first = epoch * self.steps_an_epoch
        last = min(first + self.steps_an_epoch, self.steps)
        self.model.train()
        # A resumed run may stand between an epoch's last step and its scores.
        for step in range(self.progress.step, last):
            self.stop.check()
            loss = self._train_step(step, batches[step - first])
            self.progress.step += 1
            self.progress.seconds = time.monotonic() - self._started
            self._report(loss)
            show(self.progress, loss)
            if time.monotonic() - self._saved >= self.checkpoint_seconds:
                self.save()

    def _batches(self, epoch: int) -> list[Any]:
        return epoch_batches(
            self.train.lengths,
            batch_size=self.recipe.per_device_train_batch_size,
            seed=self.recipe.seed,
            epoch=epoch,
        )

    def _train_step(self, step: int, rows: Any) -> float:
        """Takes one step; returns its loss."""
        batch = on_device(self.train.batch(rows), self._device)
        # Dropout is a function of the seed and the step, so a resumed run needs no saved random state.
        seed_dropout((self.recipe.seed << 32) + step, device=self._device)
        self.optimizer.read(batch["input_ids"])
        labels = batch.pop("labels")
        loss = self.objective.loss_sum(self.model(**batch).logits, labels) / self.objective.mass(labels)
        loss.backward()
        self._rate = self.optimizer.step(step)
        self.progress.examples += len(rows)
        self.progress.tokens += int(self.train.lengths[rows].sum())
        return float(loss.item())

    def _report(self, loss: float) -> None:
        """Records every so many steps."""
        now, step = self.progress, self.progress.step
        self._loss_sum += loss
        self._loss_count += 1
        if step % max(1, self.steps // _EVENTS_A_RUN) and step != self.steps:
            return
        mean = self._loss_sum / self._loss_count
        self._loss_sum, self._loss_count = 0.0, 0
        self.record(
            {
                "event": "step",
                "step": step,
                "epoch": round(step / self.steps_an_epoch, 4),
                "loss": round(mean, 6),
                "learning_rate": self._rate,
                "seconds": round(now.seconds, 3),
                "examples_per_second": round(now.examples / now.seconds, 1),
            }
        )

    def _end_epoch(self, epoch: int) -> None:
        self.optimizer.settle()
        metrics = evaluate(
            self.model,
            self.scored,
            split=self.scored_split,
            class_names=self.class_names,
            batch_size=self.recipe.per_device_eval_batch_size,
            objective=self.objective,
            check=self.stop.check,
        ).metrics
        log.info("epoch %d: %s %s", epoch, metrics.split, metrics.in_brief)
        self.record(
            {
                "event": "evaluation",
                "step": self.progress.step,
                "epoch": epoch,
                "split": metrics.split,
                **metrics.as_event(),
            }
        )
        now = self.progress
        now.epochs_scored = epoch
        accuracy, negative_loss = merit(metrics, objective=self.objective)
        better = (accuracy, negative_loss) > (now.best_accuracy, -now.best_loss)
        gain = accuracy - now.best_accuracy if now.best_epoch else math.inf
        if self.chooses and better:
            now.best_accuracy, now.best_loss, now.best_epoch = accuracy, -negative_loss, epoch
            # The last epoch's weights are in the model already.
            if now.step < self.steps:
                self._best = {name: value.clone() for name, value in self.model.state_dict().items()}
        now.epochs_without_progress = epochs_without_progress(
            self.recipe, so_far=now.epochs_without_progress, better=better, gain=gain
        )
        if now.step < self.steps and not self._goes_on():
            self.record(early_stop(step=now.step, epoch=epoch, epochs_without_progress=now.epochs_without_progress))

    def _keep_best(self) -> None:
        """Puts the best epoch's weights into the model, unless it is the last one's."""
        if self.chooses and self._best and self.progress.best_epoch != self.progress.epochs_scored:
            self.model.load_state_dict(self._best)
            log.info("epoch %d had the best %s scores: it is kept", self.progress.best_epoch, self.scored_split)

    def save(self) -> None:
        """Saves a checkpoint of this moment."""
        weights = {"model": self.model.state_dict()}
        if self._best:
            weights["best"] = self._best
        self._saved = time.monotonic()
        path = self.checkpoints.save(
            self.progress.step, weights=weights, optimizer=self.optimizer, state=asdict(self.progress)
        )
        log.info("saved %s", path)

    def resume(self, path: Any) -> None:
        """Goes back to where a checkpoint was saved."""
        weights, state = self.checkpoints.load(path, optimizer=self.optimizer)
        self.model.load_state_dict(weights["model"])
        self._best = weights.get("best", {})
        self.progress = Progress(**{key: state[key] for key in asdict(self.progress)})


def seed_dropout(seed: int, *, device: torch.device) -> None:
    """Sets the random state that dropout draws from. torch.manual_seed asks every back end, for 0.4 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
