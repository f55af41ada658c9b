"""The records of a run: metrics.json and recipe.json for programs, the report and the model card for people."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.disk.durable import delete, write_json
from src.training.engine.trainer import Trainer
from src.training.environment.description import peak_rss_bytes
from src.training.evaluation.problem import Metrics
from src.training.evaluation.result import FinishedRun
from src.training.report.model_card import model_card
from src.training.report.page import report_page
from src.training.run.artifact import METRICS_FILE, RECIPE_FILE

log = logging.getLogger("finetune")


def write_finished_run(folder: Path, run: FinishedRun) -> None:
    """Writes all four files; without a page that cannot be made, which is no reason to lose a trained model."""
    results = {
        "after": run.after.metrics.as_json(),
        "comparison": run.comparison.as_json(),
        "environment": run.environment,
        "status": "complete",
        "validation": _validation_scores(run),
    }
    _write_metrics(folder, before=run.before.metrics, effort=run.effort, results=results)
    write_json(folder / RECIPE_FILE, run.resolved)
    _write_page(folder / "report.html", report_page, run)
    _write_page(folder / "README.md", model_card, run)


def _validation_scores(run: FinishedRun) -> dict[str, Any] | None:
    """Returns the scores of the epoch that is kept, on the rows that may choose among models: not on the test rows."""
    if run.validation["sha256"] == run.resolved["inputs"]["data"]["test"]["sha256"]:
        return None
    left_out = ("event", "step", "epoch")
    return next(
        (
            {name: value for name, value in event.items() if name not in left_out}
            for event in run.events
            if event["event"] == "evaluation" and event["epoch"] == run.kept_epoch
        ),
        None,
    )


def _write_page(path: Path, make: Callable[[FinishedRun], str], run: FinishedRun) -> None:
    try:
        page = make(run)
    except Exception as error:
        log.warning("%s is left out, for it could not be made: %s: %s", path.name, type(error).__name__, error)
        return
    path.write_text(page, encoding="utf-8")


def write_stopped_run(
    folder: Path,
    *,
    resolved: Mapping[str, Any],
    before: Metrics,
    effort: Mapping[str, Any],
    environment: Mapping[str, Any],
    status: str,
) -> None:
    """Writes recipe.json, and metrics.json without results.

    Args:
        folder: where the checkpoint is.
        resolved: content of recipe.json.
        before: scores before training.
        effort: what `training_effort` returns.
        environment: what `describe_environment` returns.
        status: interrupted or stopped_at_deadline.
    """
    for name in (RECIPE_FILE, METRICS_FILE):
        # Whatever has the name: writing to a FIFO would block for ever.
        delete(folder / name)
    write_json(folder / RECIPE_FILE, resolved)
    results = {"after": None, "comparison": None, "validation": None, "environment": environment, "status": status}
    _write_metrics(folder, before=before, effort=effort, results=results)


def _write_metrics(folder: Path, *, before: Metrics, effort: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    write_json(folder / METRICS_FILE, {"schema": 2, "before": before.as_json(), "train": effort, **results})


def training_effort(trainer: Trainer, *, threads: int, device: str) -> dict[str, Any]:
    """Returns the cost of training so far, as metrics.json holds it: times in seconds, memory in bytes."""
    now = trainer.state
    seconds = max(now.seconds, 1e-9)
    return {
        "seconds": now.seconds,
        "examples": now.examples,
        "examples_per_second": now.examples / seconds,
        "tokens_per_second": now.tokens / seconds,
        "epochs": now.step / trainer.steps_an_epoch,
        "steps": now.step,
        "peak_rss_bytes": peak_rss_bytes(children=trainer.data_parallel.processes - 1),
        "threads": threads,
        "device": device,
    }
