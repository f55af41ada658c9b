"""What a person reads while a run goes on: the tutorial's sections, on standard output."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from src.cli.formats import number_or_dash
from src.training.evaluation.class_metrics import Metrics
from src.training.evaluation.mcnemar import Comparison
from src.training.evaluation.value_metrics import AnyMetrics, RegressionMetrics

_RULE = "=" * 80
_LOGGERS = ("finetune", "src")

log = logging.getLogger("finetune")


def configure_logging() -> None:
    """Sends the run's lines to standard output as they are. Standard error is for errors."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
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


def show_metrics(metrics: AnyMetrics) -> None:
    """Prints the scores of one split."""
    if isinstance(metrics, Metrics):
        _show_class_metrics(metrics)
    else:
        _show_value_metrics(metrics)


def _show_value_metrics(metrics: RegressionMetrics) -> None:
    interval = "" if metrics.mae_ci95 is None else " (95% interval {:.4f} to {:.4f})".format(*metrics.mae_ci95)
    log.info("Examples: %s (%s)", f"{metrics.examples:,}", metrics.split)
    log.info("Mean absolute error: %.4f%s", metrics.mae, interval)
    log.info("Mean squared error: %.4f", metrics.mse)
    told = map(number_or_dash, (metrics.pearson, metrics.spearman, metrics.r2))
    log.info("Correlation: Pearson %s, Spearman %s  R2: %s", *told)


def _show_class_metrics(metrics: Metrics) -> None:
    low, high = metrics.accuracy_ci95
    log.info("Examples: %s (%s)", f"{metrics.examples:,}", metrics.split)
    log.info(
        "Accuracy: %.4f (%.2f%%; 95%% interval %.1f%% to %.1f%%)",
        metrics.accuracy,
        100 * metrics.accuracy,
        100 * low,
        100 * high,
    )
    log.info("Loss: %.4f", metrics.loss)
    log.info(
        "Precision: %.4f  Recall: %.4f  F1: %.4f  (means over the classes)",
        metrics.precision,
        metrics.recall,
        metrics.f1,
    )
    show_confusion(metrics)


def show_confusion(metrics: Metrics) -> None:
    """Prints the confusion matrix: rows true, columns predicted."""
    names = [name[:16] for name in metrics.labels]
    # Beyond this no terminal shows a row in one line; metrics.json has it whole.
    if len(names) > 12:
        log.info("Confusion matrix: %d classes, see metrics.json", len(names))
        return
    width = max(8, *(len(name) for name in names)) + 2
    log.info("Confusion matrix (rows true, columns predicted):")
    log.info("%s%s", " " * width, "".join(f"{name:>{width}}" for name in names))
    for name, row in zip(names, metrics.confusion_matrix, strict=True):
        log.info("%s%s", f"{name:<{width}}", "".join(f"{count:>{width},}" for count in row))


def show_comparison(comparison: Comparison) -> None:
    """Prints, in one line, whether what changed is more than noise."""
    log.info("Before against after: %s", comparison.in_words)
