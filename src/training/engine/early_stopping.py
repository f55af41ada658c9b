"""When a run ends before its last epoch, by the rule of transformers' EarlyStoppingCallback."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from src.cli.errors import RequestError

_EVENT = "early_stop"

log = logging.getLogger("finetune")


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """The rule.

    Attributes:
        patience: epochs in a row without progress after which training ends; None: never.
        threshold: a score must gain more than this to be progress; 0: any better epoch is.
    """

    patience: int | None = None
    threshold: float = 0.0

    def check(self, *, selects_epoch: bool) -> None:
        """Refuses early stopping by scores that may not select the epoch.

        Raises:
            RequestError: they cannot decide which epoch is kept, so not which one is the last either.
        """
        if self.patience is not None and not selects_epoch:
            raise RequestError(
                "early_stopping_patience needs rows that may choose the epoch: give a --validation_file beside a "
                "--test_file, or set train rows aside with --validation_fraction, and leave load_best_model_at_end "
                "true"
            )

    def epochs_without_progress(self, *, so_far: int, better: bool, gain: float) -> int:
        """Returns how many epochs in a row have now passed without progress.

        Args:
            so_far: the same number before this epoch.
            better: whether this epoch is the best so far.
            gain: its score minus the best one before; infinite for the first epoch.
        """
        return 0 if better and (self.threshold == 0 or gain > self.threshold) else so_far + 1

    def is_out_of_patience(self, epochs_without_progress: int) -> bool:
        """Whether training ends here."""
        return self.patience is not None and epochs_without_progress >= self.patience


def early_stop(*, step: int, epoch: int, epochs_without_progress: int) -> dict[str, Any]:
    """Logs that training ends here; returns the event that says so in events.jsonl."""
    log.info("stopped early after epoch %d: %d without a better score", epoch, epochs_without_progress)
    return {"event": _EVENT, "step": step, "epoch": epoch, "epochs_without_progress": epochs_without_progress}


def find_early_stop(events: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the event of a run that was stopped early, or None."""
    return next((event for event in events if event["event"] == _EVENT), None)
