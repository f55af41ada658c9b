"""Progress of training: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from src.cli.formats import duration
from src.training.engine.trainer import TrainerState
from src.training.run.console import lines_above

_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.25
# One step's loss says little: the bar shows about the mean of the last 50.
_LOSS_WEIGHT = 0.02

log = logging.getLogger("finetune")


class StepDisplay(Protocol):
    """Called after each step."""

    def __call__(self, state: TrainerState, loss: float) -> None:
        """Shows the state of the run and the loss of its last step."""


@contextmanager
def step_display(steps: int, *, console: Console | None = None) -> Iterator[StepDisplay]:
    """Yields what to call after each step. However the block ends, the terminal is left as it was.

    Args:
        steps: of the whole run.
        console: for the bar; by default standard output if it is a terminal that can draw one, else there are lines.
    """
    console = console or _terminal()
    if console is None:
        yield PlainLines(steps)
        return
    # No thread of rich's own draws: it would take time from training, and go on after a signal.
    bar = Progress(
        BarColumn(bar_width=None),
        TextColumn("step {task.completed:,.0f} of {task.total:,.0f}  {task.fields[speed]}", markup=False),
        console=console,
        auto_refresh=False,
        expand=True,
        redirect_stdout=False,
        # Warnings go above the bar, unless they go to a file.
        redirect_stderr=sys.stderr.isatty(),
    )
    with bar, lines_above(lambda line: bar.console.print(line, soft_wrap=True, markup=False, highlight=False)):
        yield BarDisplay(steps, bar=bar)


def _terminal() -> Console | None:
    # Not rich's own guess: it obeys FORCE_COLOR, which many a CI sets whose log is not a terminal.
    console = Console()
    return console if sys.stdout.isatty() and not console.is_dumb_terminal else None


class PlainLines:
    """A line every five seconds, and one for the last step."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._losses = 0.0
        self._first, self._shown = -1, 0.0

    def __call__(self, state: TrainerState, loss: float) -> None:
        """Adds the step's loss; prints if it is time."""
        if self._first < 0:
            self._first, self._shown = state.step - 1, state.seconds
        self._losses += loss
        if state.seconds - self._shown < _LINE_SECONDS and state.step != self._steps:
            return
        mean = self._losses / (state.step - self._first)
        log.info(
            "step %s of %s  %s", f"{state.step:,}", f"{self._steps:,}", _speed(state, steps=self._steps, loss=mean)
        )
        self._losses, self._first, self._shown = 0.0, state.step, state.seconds


class BarDisplay:
    """A bar that is drawn at most four times a second."""

    def __init__(self, steps: int, *, bar: Progress) -> None:
        self._steps, self._bar = steps, bar
        self._task = bar.add_task("", total=steps, speed="")
        self._loss: float | None = None
        self._shown = float("-inf")

    def __call__(self, state: TrainerState, loss: float) -> None:
        """Adds the step's loss; draws if it is time."""
        self._loss = loss if self._loss is None else self._loss + _LOSS_WEIGHT * (loss - self._loss)
        if state.seconds - self._shown < _BAR_SECONDS and state.step != self._steps:
            return
        self._shown = state.seconds
        self._bar.update(self._task, completed=state.step, speed=_speed(state, steps=self._steps, loss=self._loss))
        self._bar.refresh()


def _speed(state: TrainerState, *, steps: int, loss: float) -> str:
    seconds = max(state.seconds, 1e-9)
    left = seconds * (steps / state.step - 1)
    return f"loss {loss:.4f}  {state.examples / seconds:,.0f} examples a second  {duration(left)} left"
