"""One run from its inputs to the committed artifact: the order of things, and what is told of them."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.training import artifact
from src.training.base_model import build_model
from src.training.batching import EncodedRows, encode
from src.training.checkpoints import Checkpoints
from src.training.comparison import compare
from src.training.console import configure_logging, section, show_comparison, show_metrics
from src.training.data import Rows
from src.training.engine import Trainer
from src.training.environment import describe_environment
from src.training.error_comparison import compare_errors
from src.training.errors import RequestError, StopRequested
from src.training.events import EventLog, read_events
from src.training.finished_run import FinishedRun
from src.training.model_inputs import reads_token_types
from src.training.objective import Objective
from src.training.request import Request, working_folder
from src.training.resolved import ResolvedRun
from src.training.run_records import training_effort, write_finished_run, write_stopped_run
from src.training.runtime import StopSignal, configure_torch
from src.training.saved_model import predict_sample, show_architecture, verify_saved
from src.training.scoring import Scored, evaluate
from src.training.step_display import step_display

log = logging.getLogger("finetune")


class Session:
    """A run. Its state is what the steps of `run` hand on to one another."""

    def __init__(self, request: Request, *, resolved: ResolvedRun, stop: StopSignal) -> None:
        """Takes the request with its inputs.

        Raises:
            RequestError: the output folder is not free, or a checkpoint does not fit.
        """
        configure_logging()
        self.options, self.stop, self.name = request.options, stop, request.recipe_name
        self.resolved, self.recipe, self.task = resolved, resolved.recipe, resolved.task
        self.objective = Objective(kind=self.task.problem_type, class_weights=self.task.class_weights)
        self.output = self.options.output_dir or self._default_output()
        fingerprint = resolved.fingerprint
        artifact.check_output_folder(self.output, overwrite=self.options.overwrite_output_dir, fingerprint=fingerprint)
        self.checkpoints = Checkpoints(self.output.parent / f"{self.output.name}.checkpoint", fingerprint=fingerprint)
        self.resume_from = self._checkpoint_to_resume()

    def _default_output(self) -> Path:
        if outputs := os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR"):
            return Path(outputs) / "model"
        return working_folder() / "finetuned" / f"{self.name}-{self.resolved.fingerprint[:8]}"

    def _checkpoint_to_resume(self) -> Path | None:
        wanted = self.options.resume_from_checkpoint
        if wanted == "false":
            self.checkpoints.remove()
        found = self.checkpoints.latest()
        if wanted == "true" and found is None:
            raise RequestError(f"there is no checkpoint in {self.checkpoints.folder} to resume from")
        return found

    def run(self) -> Path:
        """Trains, measures, verifies and commits; returns the artifact folder.

        Raises:
            StopRequested: a signal or the deadline came; where training had begun, a checkpoint is saved.
        """
        configure_torch(self.recipe, threads=self.resolved.threads)
        self._announce()
        model, tokenizer = build_model(
            self.resolved.base,
            class_names=self.task.class_names or (self.recipe.label_column_name,),
            seed=self.recipe.seed,
            max_seq_length=self.recipe.max_seq_length,
            problem_type=self.task.problem_type,
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.nn.Module.to(model, self.device)
        token_types = reads_token_types(model, tokenizer)
        train, progress, final = (self._encode(rows, tokenizer, token_types=token_types) for rows in self._splits())
        section("Model Performance Before Fine Tuning")
        before = self._measure(model, final, after_training=False)
        self.events = EventLog(self.checkpoints.folder / artifact.EVENTS_FILE)
        trainer = self._trainer(model, train=train, progress=progress)
        section("Training The Model")
        try:
            return self._train_and_finish(trainer, tokenizer, final=final, before=before)
        finally:
            self.events.close()
            artifact.remove_staging(self.output)

    def _train_and_finish(self, trainer: Trainer, tokenizer: Any, *, final: EncodedRows, before: Scored) -> Path:
        """Trains and commits; whatever ends it early, the same command can go on from there."""
        try:
            self._train(trainer)
            return self._finish(trainer, tokenizer, final=final, before=before)
        except StopRequested as stopped:
            # The loop has saved its own checkpoint; what comes after it would be lost.
            if trainer.is_done:
                trainer.save()
            write_stopped_run(
                self.checkpoints.folder,
                resolved=self.resolved.document,
                before=before.metrics,
                effort=self._effort(trainer),
                status=str(stopped),
            )
            raise
        except Exception:
            # Trained, and then no room on the disk, say: the same command is to go on from here, not to train again.
            # Where the checkpoint does not fit either, the first error is the one to tell.
            if trainer.is_done:
                with contextlib.suppress(OSError):
                    trainer.save()
            raise

    @property
    def _sample(self) -> dict[str, Any]:
        """What the sample is to be read and told by."""
        return {"class_names": self.task.class_names, "pair": self.task.final.pairs is not None}

    def _splits(self) -> tuple[Rows, Rows, Rows]:
        return self.task.train, self.task.progress, self.task.final

    def _announce(self) -> None:
        log.info(
            "Recipe %s: %s on %s",
            self.name,
            self.recipe.model_name_or_path,
            self.recipe.dataset_name or self.recipe.train_file,
        )
        log.info(
            "Rows: %s to train on, %s scored after each epoch (%s), %s for the final numbers (%s)",
            *(f"{len(rows):,}" for rows in self._splits()[:2]),
            self.task.progress.split,
            f"{len(self.task.final):,}",
            self.task.final.split,
        )
        for line in self.task.labels_in_words():
            log.info("%s", line)
        log.info("CPU threads: %d; reproducible: %s", self.resolved.threads, self.recipe.reproducible)

    def _encode(self, rows: Rows, tokenizer: Any, *, token_types: bool) -> EncodedRows:
        return encode(rows, tokenizer=tokenizer, max_seq_length=self.recipe.max_seq_length, token_types=token_types)

    def _measure(self, model: torch.nn.Module, rows: EncodedRows, *, after_training: bool) -> Scored:
        scored = evaluate(
            model,
            rows,
            split=self.task.final.split,
            class_names=self.task.class_names,
            batch_size=self.recipe.per_device_eval_batch_size,
            objective=self.objective,
            # Before training there is nothing to save, and a deadline is met by the loop, which saves.
            check=self.stop.check if after_training else lambda: None,
        )
        show_metrics(scored.metrics)
        return scored

    def _trainer(self, model: torch.nn.Module, *, train: EncodedRows, progress: EncodedRows) -> Trainer:
        return Trainer(
            model=model,
            recipe=self.recipe,
            train=train,
            scored=progress,
            scored_split=self.task.progress.split,
            class_names=self.task.class_names,
            chooses=self.task.chooses,
            checkpoints=self.checkpoints,
            stop=self.stop,
            record=self.events.record,
            objective=self.objective,
        )

    def _train(self, trainer: Trainer) -> None:
        # A signal in the middle would leave half of the checkpoint's state in the trainer.
        with self.stop.deferred():
            if self.resume_from is not None:
                trainer.resume(self.resume_from)
                log.info("Resuming from %s, step %d of %d", self.resume_from, trainer.progress.step, trainer.steps)
            self.events.drop_after(trainer.progress.step)
        with step_display(trainer.steps) as show:
            trainer.fit(show)
        log.info("Model trained in %.1f seconds", trainer.progress.seconds)

    def _finish(self, trainer: Trainer, tokenizer: Any, *, final: EncodedRows, before: Scored) -> Path:
        """Measures the trained model and commits the artifact."""
        model: Any = trainer.model
        section("Model architecture")
        show_architecture(model)
        section("A sample test inference before saving")
        prediction = predict_sample(model, tokenizer, **self._sample)
        section("Model Performance After Fine Tuning")
        after = self._measure(model, final, after_training=True)
        staging = artifact.staging_folder(self.output)
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        write_finished_run(staging, self._finished(trainer, before=before, after=after))
        (staging / artifact.EVENTS_FILE).write_bytes(self.events.path.read_bytes())
        section("Loading saved model to verify")
        verify_saved(staging, prediction, device=self.device, **self._sample)
        with self.stop.deferred():
            artifact.commit(staging, self.output)
            self.checkpoints.remove()
        return self.output

    def _finished(self, trainer: Trainer, *, before: Scored, after: Scored) -> FinishedRun:
        said = {"before": before.predicted, "after": after.predicted, "true": np.array(self.task.final.labels)}
        comparison = compare(**said) if self.task.class_names else compare_errors(**said)
        show_comparison(comparison)
        return FinishedRun(
            title=self.name,
            resolved=self.resolved.document,
            final=self.task.final,
            before=before,
            after=after,
            comparison=comparison,
            events=read_events(self.events.path),
            kept_epoch=trainer.progress.best_epoch or trainer.progress.epochs_scored,
            effort=self._effort(trainer),
            environment=describe_environment(),
        )

    def _effort(self, trainer: Trainer) -> dict[str, Any]:
        return training_effort(trainer, threads=self.resolved.threads, device=str(self.device))
