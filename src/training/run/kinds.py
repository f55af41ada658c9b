"""What a run does in its own way for each kind of model. Nothing else in a run asks which kind it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from src.training.data.rows import Examples
from src.training.engine.data_parallel import DataParallel
from src.training.evaluation.comparison import Comparison
from src.training.evaluation.problem import Scored
from src.training.run.classifier_kind import ClassifierKind
from src.training.run.language_kind import LanguageKind
from src.training.run.resolved_run import ResolvedRun


class Kind(Protocol):
    """The steps of a run that depend on what is trained."""

    def build(self) -> tuple[Any, Any]:
        """Loads the model and its tokenizer, once all that can be refused without its weights is.

        Raises:
            RequestError: the base model is not one of this kind, or a row does not fit into it.
        """

    def data_parallel(self, model: Any, tokenizer: Any, *, is_stopping: Callable[[], bool]) -> DataParallel:
        """Starts the processes, which nothing holds up once `is_stopping`.

        Raises:
            RequestError: the run does not fit into memory.
        """

    def measure(self, data_parallel: DataParallel, *, check: Callable[[], None]) -> Scored:
        """Scores the model on the test rows; `check` may raise to stop."""

    def compare(self, *, before: Scored, after: Scored) -> Comparison:
        """Compares the untrained with the trained model, row by row."""

    def sample(self, model: Any, tokenizer: Any) -> torch.Tensor:
        """Prints the model's answer for one text; returns the numbers behind it, by which `verify` compares."""

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Writes the model and its tokenizer."""

    def write_untrained(self, folder: Path) -> None:
        """Writes what a test's `save` would, had it trained nothing; before or without `build`."""

    def verify(self, folder: Path, sample: torch.Tensor) -> None:
        """Loads what `save` wrote as a user would.

        Raises:
            RuntimeError: it does not answer as the model in memory did.
        """


def kind_of(resolved: ResolvedRun) -> Kind:
    """Returns the kind of a run, by its rows."""
    return ClassifierKind(resolved) if isinstance(resolved.task.train, Examples) else LanguageKind(resolved)
