"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from src.cli.errors import StopRequested
from src.training.engine.checkpoints import Checkpoints
from src.training.engine.data_parallel import VALIDATION, DataParallel
from src.training.engine.early_stopping import EarlyStopping, early_stop
from src.training.engine.settings import CHECKPOINT_SECONDS
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.problem import Metrics

_EVENTS_PER_RUN = 200

log = logging.getLogger("finetune")


@dataclass(kw_only=True)
class TrainerState:
    """The progress of a run: what a checkpoint holds besides weights."""

    step: int = 0
    seconds: float = 0.0
    examples: int = 0
    tokens: int = 0
    epochs_scored: int = 0
    best_merit: tuple[float, ...] = ()
    best_epoch: int = 0
    epochs_without_progress: int = 0


@dataclass(kw_only=True)
class Trainer:
    """One run of the loop.

    Attributes:
        data_parallel: the model, and what takes its steps.
        scored_split: name of the rows that are scored after each epoch.
        selects_epoch: whether those scores decide which epoch's weights are kept.
        record: takes one event, for events.jsonl.
        checkpoint_seconds: time from one checkpoint to the next.
        is_done: whether training has ended, and the weights to keep are in the model.
    """

    data_parallel: DataParallel
    scored_split: str
    selects_epoch: bool
    checkpoints: Checkpoints
    stop: StopSignal
    record: Callable[[dict[str, Any]], None]
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    state: TrainerState = field(default_factory=TrainerState)

    is_done: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.model, self.steps = self.data_parallel.model, self.data_parallel.steps
        self.steps_an_epoch = self.data_parallel.steps_an_epoch
        self._best: dict[str, torch.Tensor] = {}
        self._loss_sum, self._loss_count = 0.0, 0
        self._started = self._saved = self._rate = 0.0

    def fit(self, show: Callable[[TrainerState, float], None] = lambda _state, _loss: None) -> None:
        """Trains from `state` to the end.

        Args:
            show: called with the state and the loss after each step.

        Raises:
            StopRequested: a signal or the deadline came; a checkpoint is saved.
        """
        self._saved = time.monotonic()
        self._started = self._saved - self.state.seconds
        with self.stop.deferred():
            try:
                while self._continues():
                    self._train_epoch(self.state.epochs_scored, show)
                    self._end_epoch(self.state.epochs_scored + 1)
            except StopRequested:
                self.save()
                raise
            self._keep_best()
            self.is_done = True

    def _continues(self) -> bool:
        """Whether another epoch is trained and scored."""
        now = self.state
        if now.epochs_scored == math.ceil(self.steps / self.steps_an_epoch):
            return False
        return not self.early_stopping.is_out_of_patience(now.epochs_without_progress)

    def _train_epoch(self, epoch: int, show: Callable[[TrainerState, float], None]) -> None:
        """Takes the remaining steps of an epoch."""
        last = min((epoch + 1) * self.steps_an_epoch, self.steps)
        # A resumed run may be between an epoch's last step and its scores.
        for step in range(self.state.step, last):
            self.stop.check()
            rows, tokens = self.data_parallel.size(step)
            loss, self._rate = self.data_parallel.step(step)
            self._count(rows, tokens)
            self._report(loss)
            show(self.state, loss)
            if time.monotonic() - self._saved >= self.checkpoint_seconds:
                self.save()

    def _count(self, rows: int, tokens: int) -> None:
        self.state.step += 1
        self.state.examples += rows
        self.state.tokens += tokens
        self.state.seconds = time.monotonic() - self._started

    def _report(self, loss: float) -> None:
        """Records the mean loss since the last record, some 200 times a run."""
        now, step = self.state, self.state.step
        self._loss_sum += loss
        self._loss_count += 1
        if step % max(1, self.steps // _EVENTS_PER_RUN) and step != self.steps:
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

    def _score(self) -> Metrics:
        self.data_parallel.catch_up_all(done=self.state.step)
        return self.data_parallel.score(VALIDATION, name=self.scored_split, check=self.stop.check).metrics

    def _end_epoch(self, epoch: int) -> None:
        metrics = self._score()
        log.info("epoch %d: %s %s", epoch, metrics.split, metrics.brief)
        self.record(
            {
                "event": "evaluation",
                "step": self.state.step,
                "epoch": epoch,
                "split": metrics.split,
                **metrics.as_event(),
            }
        )
        now = self.state
        now.epochs_scored = epoch
        merit = self.data_parallel.problem.merit(metrics)
        better = merit > now.best_merit
        gain = merit[0] - now.best_merit[0] if now.best_merit else math.inf
        if self.selects_epoch and better:
            now.best_merit, now.best_epoch = merit, epoch
            # The last epoch's weights are in the model already.
            if now.step < self.steps:
                self._best = {name: value.clone() for name, value in self.data_parallel.state_dict().items()}
        now.epochs_without_progress = self.early_stopping.epochs_without_progress(
            so_far=now.epochs_without_progress, better=better, gain=gain
        )
        if now.step < self.steps and not self._continues():
            self.record(early_stop(step=now.step, epoch=epoch, epochs_without_progress=now.epochs_without_progress))

    def _keep_best(self) -> None:
        """Puts the best epoch's weights into the model, unless it is the last one's."""
        if self.selects_epoch and self._best and self.state.best_epoch != self.state.epochs_scored:
            self.data_parallel.load_weights(self._best)
            log.info("epoch %d had the best %s scores: it is kept", self.state.best_epoch, self.scored_split)

    def save(self) -> None:
        """Saves a checkpoint of this moment."""
        weights = {"model": self.data_parallel.state_dict()}
        if self._best:
            weights["best"] = self._best
        self._saved = time.monotonic()
        path = self.checkpoints.save(
            self.state.step, weights=weights, optimizer=self.data_parallel.optimizer, state=asdict(self.state)
        )
        log.info("saved %s", path)

    def resume(self, path: Any) -> None:
        """Restores a checkpoint."""
        weights, optimizer, saved = self.checkpoints.load(path)
        self.data_parallel.load_state_dict(weights["model"], optimizer)
        self._best = weights.get("best", {})
        fields = {key: saved[key] for key in asdict(self.state)}
        self.state = TrainerState(**{**fields, "best_merit": tuple(fields["best_merit"])})
