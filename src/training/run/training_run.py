"""One run from its inputs to the committed artifact, in the order in which things happen."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from src.cli.errors import StopRequested
from src.training.engine.data_parallel import DataParallel
from src.training.engine.memory_check import check_model_fits
from src.training.engine.trainer import Trainer
from src.training.environment.description import describe_environment
from src.training.environment.determinism import configure_torch
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.problem import Scored
from src.training.evaluation.result import FinishedRun
from src.training.model.lora import free_frozen_weights
from src.training.run import artifact
from src.training.run.console import section, show_comparison, show_metrics
from src.training.run.events import EventLog, read_events
from src.training.run.folders import open_run_folders
from src.training.run.kinds import kind_of
from src.training.run.progress_bar import step_display
from src.training.run.records import training_effort, write_finished_run, write_stopped_run
from src.training.run.request import Request
from src.training.run.resolved_run import ResolvedRun
from src.training.run.verification import show_architecture

_MAX_NAMED = 10

log = logging.getLogger("finetune")


class TrainingRun:
    """A run. Its state is what the steps of `run` pass on to one another."""

    def __init__(self, request: Request, *, resolved: ResolvedRun, stop: StopSignal) -> None:
        """Takes the output folder.

        Raises:
            RequestError: the output folder is not free, or a checkpoint does not fit.
        """
        self.options, self.stop, self.name = request.options, stop, request.recipe_name
        self.resolved, self.recipe = resolved, resolved.recipe
        self.task, self.problem = resolved.task, resolved.problem
        self.kind = kind_of(resolved)
        self.folders = open_run_folders(self.options, recipe_name=self.name, fingerprint=resolved.fingerprint)
        self.output, self.checkpoints = self.folders.output, self.folders.checkpoints

    def run(self) -> Path:
        """Trains, measures, verifies and commits; returns the artifact folder.

        Raises:
            StopRequested: a signal or the deadline came; where training had begun, a checkpoint is saved.
        """
        try:
            return self._run()
        finally:
            self.folders.place.clear()
            self.folders.lock.release()

    def _run(self) -> Path:
        # What can fail in the records of a run fails before it.
        self.environment = describe_environment()
        configure_torch(self.recipe.reproducible)
        self._announce()
        check_model_fits(self.resolved.base.folder, is_frozen=bool(self.recipe.use_peft))
        model, tokenizer = self.kind.build()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.nn.Module.to(model, self.device)
        with self.kind.data_parallel(model, tokenizer, is_stopping=self._is_stopping) as data_parallel:
            section("Model Performance Before Fine Tuning")
            # Before training there is nothing to save, and a deadline is met by the loop, which saves.
            before = self._measure(data_parallel, check=lambda: None)
            self.events = EventLog(self.checkpoints.folder / artifact.EVENTS_FILE)
            section("Training The Model")
            try:
                return self._train_and_finish(self._trainer(data_parallel), tokenizer, before=before)
            finally:
                self.events.close()

    def _train_and_finish(self, trainer: Trainer, tokenizer: Any, *, before: Scored) -> Path:
        """Trains and commits; whatever ends it early, the same command resumes from there."""
        try:
            self._train(trainer)
            return self._finish(trainer, tokenizer, before=before)
        except StopRequested:
            # The loop has saved its own checkpoint; what comes after it would be lost.
            if trainer.is_done:
                trainer.save()
            write_stopped_run(
                self.checkpoints.folder,
                resolved=self.resolved.document,
                before=before.metrics,
                effort=self._effort(trainer),
                environment=self.environment,
                status=str(self.stop.status),
            )
            raise
        except Exception:
            # Trained, and then the disk is full, say: the same command is to resume here, not to train again.
            # Where the checkpoint does not fit either, the first error is the one to report.
            if trainer.is_done:
                with contextlib.suppress(OSError):
                    trainer.save()
            raise

    def _announce(self) -> None:
        log.info(
            "Recipe %s: %s on %s",
            self.name,
            self.recipe.model_name_or_path,
            self.recipe.dataset_name or self.recipe.train_file,
        )
        log.info(
            "Rows: %s to train on, %s scored after each epoch (%s), %s for the final numbers (%s)",
            *(f"{len(rows):,}" for rows in (self.task.train, self.task.validation)),
            self.task.validation.split,
            f"{len(self.task.test):,}",
            self.task.test.split,
        )
        for line in (self.task.labels.describe(self.task.train.labels), *self.problem.settings_lines()):
            log.info("%s", line)
        if untested := self.task.labels.untested(self.task.test.labels):
            named = ", ".join(map(repr, untested[:_MAX_NAMED])) + (" and others" if untested[_MAX_NAMED:] else "")
            log.info("No %s row is labelled %s: the scores say nothing about that", self.task.test.split, named)
        log.info("CPU threads: %d; reproducible: %s", self.resolved.threads, self.recipe.reproducible)

    def _is_stopping(self) -> bool:
        return self.stop.status is not None

    def _measure(self, data_parallel: DataParallel, *, check: Callable[[], None]) -> Scored:
        scored = self.kind.measure(data_parallel, check=check)
        show_metrics(scored.metrics)
        return scored

    def _trainer(self, data_parallel: DataParallel) -> Trainer:
        return Trainer(
            data_parallel=data_parallel,
            early_stopping=self.resolved.early_stopping,
            scored_split=self.task.validation.split,
            selects_epoch=self.task.selects_epoch,
            checkpoints=self.checkpoints,
            stop=self.stop,
            record=self.events.record,
            checkpoint_seconds=self.options.checkpoint_seconds,
        )

    def _train(self, trainer: Trainer) -> None:
        # A signal in the middle would leave half of the checkpoint's state in the trainer.
        with self.stop.deferred():
            if (checkpoint := self.folders.resume_from) is not None:
                trainer.resume(checkpoint)
                log.info("Resuming from %s, step %d of %d", checkpoint, trainer.state.step, trainer.steps)
            self.events.drop_after(trainer.state.step, epoch=trainer.state.epochs_scored)
        with step_display(trainer.steps) as show:
            trainer.fit(show)
        log.info("Model trained in %.1f seconds", trainer.state.seconds)

    def _finish(self, trainer: Trainer, tokenizer: Any, *, before: Scored) -> Path:
        """Measures the trained model and commits the artifact."""
        model: Any = trainer.model
        section("Model architecture")
        show_architecture(model)
        section("A sample test inference before saving")
        sample = self.kind.sample(model, tokenizer)
        section("Model Performance After Fine Tuning")
        after = self._measure(trainer.data_parallel, check=self.stop.check)
        trainer.data_parallel.close()
        staging = self.folders.place.stage()
        self.kind.save(model, tokenizer, staging)
        write_finished_run(staging, self._finished(trainer, before=before, after=after))
        (staging / artifact.EVENTS_FILE).write_bytes(self.events.path.read_bytes())
        section("Loading saved model to verify")
        # What is loaded needs as much. What a checkpoint needs stays: something may still fail.
        free_frozen_weights(model)
        self.kind.verify(staging, sample)
        with self.stop.deferred():
            self.folders.place.commit()
            self.checkpoints.remove()
        return self.output

    def _finished(self, trainer: Trainer, *, before: Scored, after: Scored) -> FinishedRun:
        comparison = self.kind.compare(before=before, after=after)
        show_comparison(comparison)
        return FinishedRun(
            title=self.name,
            resolved=self.resolved.document,
            problem=self.problem,
            test=self.task.test,
            before=before,
            after=after,
            comparison=comparison,
            events=read_events(self.events.path),
            kept_epoch=trainer.state.best_epoch or trainer.state.epochs_scored,
            effort=self._effort(trainer),
            environment=self.environment,
        )

    def _effort(self, trainer: Trainer) -> dict[str, Any]:
        return training_effort(trainer, threads=self.resolved.threads, device=str(self.device))
