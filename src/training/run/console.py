"""What a person reads while a run goes on: the tutorial's sections, on standard output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from src.cli.standard_output import OutputHandler
from src.training.environment.stop_signal import StopSignal
from src.training.evaluation.comparison import Comparison
from src.training.evaluation.problem import Metrics

_RULE = "=" * 80
_LOGGERS = ("finetune", "src")

log = logging.getLogger("finetune")


def configure_logging(*, stop: StopSignal | None = None) -> None:
    """Sends the run's lines to standard output as they are. Standard error is for errors.

    Args:
        stop: ends the run, with a checkpoint, when its lines cannot be written any more.
    """
    handler = OutputHandler() if stop is None else OutputHandler(stop.request)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextmanager
def lines_above(write: Callable[[str], None]) -> Iterator[None]:
    """Hands the run's lines to `write` for as long as something else, such as a progress bar, holds the last line."""
    handler = _LineHandler(write)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    usual = [logger.handlers for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler]
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, usual, strict=True):
            logger.handlers = handlers


class _LineHandler(logging.Handler):
    """Hands each line to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(record.getMessage())


def section(title: str) -> None:
    """Prints a heading between rules."""
    log.info("%s\n%s\n%s", _RULE, title, _RULE)


def show_metrics(metrics: Metrics) -> None:
    """Prints the scores of one split."""
    for line in metrics.lines():
        log.info("%s", line)


def show_comparison(comparison: Comparison) -> None:
    """Prints, in one line, whether what changed is more than noise."""
    log.info("Before against after: %s", comparison.summary)
