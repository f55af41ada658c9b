"""When a run ends before its last epoch, by the rule of transformers' EarlyStoppingCallback."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from src.cli.errors import RequestError
from src.training.recipes.recipe import Recipe

_EVENT = "early_stop"

log = logging.getLogger("finetune")


def check_early_stopping(recipe: Recipe, *, selects_epoch: bool) -> None:
    """Refuses early stopping by scores that may not choose.

    Args:
        recipe: the run.
        chooses: whether the scores after each epoch decide which one is kept.

    Raises:
        RequestError: they do not, so they cannot decide which epoch is the last one either.
    """
    if recipe.early_stopping_patience is not None and not selects_epoch:
        raise RequestError(
            "early_stopping_patience needs rows that may choose the epoch: give a --validation_file beside a "
            "--test_file, or set train rows aside with --validation_fraction, and leave load_best_model_at_end true"
        )


def epochs_without_progress(recipe: Recipe, *, so_far: int, better: bool, gain: float) -> int:
    """Returns how many epochs in a row have now passed without progress.

    Args:
        recipe: its threshold is what a score must gain, and more, to count; 0: any better epoch counts.
        so_far: the same number before this epoch.
        better: whether this epoch is the best so far.
        gain: its score minus the best one before; infinite for the first epoch.
    """
    threshold = recipe.early_stopping_threshold
    return 0 if better and (threshold == 0 or gain > threshold) else so_far + 1


def is_out_of_patience(recipe: Recipe, *, epochs: int) -> bool:
    """Whether training ends here, after so many epochs without progress."""
    return recipe.early_stopping_patience is not None and epochs >= recipe.early_stopping_patience


def early_stop(*, step: int, epoch: int, epochs_without_progress: int) -> dict[str, Any]:
    """Says on the console that training ends here; returns the event that says so in events.jsonl."""
    log.info("stopped early after epoch %d: %d without a better score", epoch, epochs_without_progress)
    return {"event": _EVENT, "step": step, "epoch": epoch, "epochs_without_progress": epochs_without_progress}


def early_stop_event(events: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the event of a run that was stopped early, or None."""
    return next((event for event in events if event["event"] == _EVENT), None)
