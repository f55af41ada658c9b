"""Whether an exported model gives the same predictions and scores as its original, on real rows."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.cli.errors import RequestError
from src.training.data.files import read_file
from src.training.data.labels import Label, Labels
from src.training.data.rows import read_texts
from src.training.data.tables import Table, choose_columns
from src.training.embedded import locate
from src.training.export.onnx_model import OnnxClassifier
from src.training.inference.classifier import Classifier
from src.training.inference.pairs import Text

if TYPE_CHECKING:
    import torch

# Largest difference of a score between two float32 runtimes, which add in different orders.
TOLERANCE = 1e-4
_BATCH_SIZE = 16
# Score from which on a model of many labels predicts one.
_THRESHOLD = 0.5
# Rows that are timed one at a time, alternately with both models; the first ones warm up.
_TIMED, _WARM_UP = 100, 5


class Disagreement(Exception):
    """The exported model differs from the original."""


@dataclass(frozen=True, kw_only=True)
class CheckRows:
    """Rows to compare on.

    Attributes:
        texts: single ones, or pairs.
        labels: as Examples have them; None if a row has none that the model predicts.
    """

    origin: str
    texts: tuple[Text, ...]
    labels: tuple[Label | None, ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How closely two models agree.

    Attributes:
        rows: compared.
        same_predictions: fraction of rows with the same class, or all of the same labels; None in a regression.
        max_score_difference: largest absolute difference of any class's score (a probability), or value, on any row.
        max_score: largest absolute score of the original; above 1 only in a regression.
        labelled_rows: rows whose label is known.
        accuracy: of `original` and `onnx` on those; None if there are none, and in a regression.
        mean_absolute_error: the same of a regression.
        seconds_a_row: of both, one row at a time on one thread, median.
    """

    rows: int
    same_predictions: float | None
    max_score_difference: float
    max_score: float
    labelled_rows: int
    accuracy: dict[str, float] | None
    mean_absolute_error: dict[str, float] | None
    seconds_a_row: dict[str, float]

    @property
    def in_words(self) -> str:
        """The agreement, in one clause."""
        if self.same_predictions is None:
            return f"values of {self.rows:,} rows differ by up to {self.max_score_difference:.1e}"
        return (
            f"{self.same_predictions:.2%} of {self.rows:,} predictions are equal, "
            f"scores differ by up to {self.max_score_difference:.1e}"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the fields by name."""
        return dataclasses.asdict(self)


def read_check_rows(
    path: Path | None, *, text: str | None, label: str | None, labels: Labels, pair: str | None = None
) -> CheckRows:
    """Reads the rows to compare on.

    Args:
        path: a .csv, .tsv, .json, .jsonl or .parquet file; None: the test rows of the embedded movie reviews.
        text: name of the text column (default: the only other column).
        label: name of the label column (default: `label`, if it exists).
        labels: what the model predicts.
        pair: name of the column with the second text of a pair; None: the rows are single texts.

    Raises:
        RequestError: the file cannot be read, has no such column, or has an empty text.
    """
    table = _embedded_rows() if path is None else read_file(path)
    if label is None:
        label = "label"
        columns = {label: [None] * table.rows, **table.columns}
        table = dataclasses.replace(table, columns=columns)
    text, label = choose_columns(table, text=text, pair=pair, label=label)
    texts: list[Text] = [*read_texts(table, text)]
    if pair is not None:
        texts = [*zip(read_texts(table, text), read_texts(table, pair), strict=True)]
    return CheckRows(origin=table.origin, texts=tuple(texts), labels=tuple(map(labels.parse, table.columns[label])))


def _embedded_rows() -> Table:
    try:
        path = locate.embedded_dataset("movie_reviews")["test"]
    except (FileNotFoundError, ValueError) as error:
        raise RequestError(f"{error} Or name rows with --check_file") from error
    return dataclasses.replace(read_file(path), origin="embedded:movie_reviews (test)")


def compare(original: Classifier, exported: OnnxClassifier, rows: CheckRows) -> Agreement:
    """Scores rows with both models: in batches as the rows come, so with much padding, and some one at a time."""
    together, alone = (_Scores(many_labels=original.source.is_multi_label) for _ in range(2))
    for batch in original.batches(rows.texts, batch_size=_BATCH_SIZE):
        together.add(batch, original=original, exported=exported)
    for batch in original.batches(rows.texts[: _TIMED + _WARM_UP], batch_size=1):
        alone.add(batch, original=original, exported=exported)
    # A row scored twice has to be the same both times: int8 rounds by what else is in the batch.
    same = together.same_predictions()
    singles = alone.same_predictions()
    same[: len(singles)] &= singles
    is_regression = original.source.is_regression
    known = [row for row, label in enumerate(rows.labels) if label is not None]
    labels = [label for label in rows.labels if label is not None]
    return Agreement(
        rows=len(rows.texts),
        same_predictions=None if is_regression else float(same.mean()),
        max_score_difference=max(together.max_difference(), alone.max_difference()),
        max_score=float(np.abs(np.concatenate(together.original)).max()),
        labelled_rows=len(known),
        accuracy=together.accuracy(known, labels) if known and not is_regression else None,
        mean_absolute_error=together.mean_absolute_error(known, labels) if known and is_regression else None,
        seconds_a_row={name: statistics.median(values[_WARM_UP:] or values) for name, values in alone.seconds.items()},
    )


class _Scores:
    """Scores of both models for the same batches, and how long they took."""

    def __init__(self, *, many_labels: bool) -> None:
        """Takes whether each output is a label of its own."""
        self._many_labels = many_labels
        self.original: list[np.ndarray] = []
        self.onnx: list[np.ndarray] = []
        self.seconds: dict[str, list[float]] = {"original": [], "onnx": []}

    def add(self, batch: dict[str, torch.Tensor], *, original: Classifier, exported: OnnxClassifier) -> None:
        """Scores a batch with one model and then the other."""
        began = time.perf_counter()
        self.original.append(original.score_batch(batch))
        between = time.perf_counter()
        self.onnx.append(exported.score_batch(batch))
        self.seconds["original"].append(between - began)
        self.seconds["onnx"].append(time.perf_counter() - between)

    def predicted(self) -> dict[str, np.ndarray]:
        """Class indices of each model, int64 [rows, 1], or whether it predicts each label, bool [rows, labels]."""
        scores = {"original": np.concatenate(self.original), "onnx": np.concatenate(self.onnx)}
        if self._many_labels:
            return {name: values >= _THRESHOLD for name, values in scores.items()}
        return {name: values.argmax(axis=-1)[:, None] for name, values in scores.items()}

    def same_predictions(self) -> np.ndarray:
        """Whether both models chose the same class, or all of the same labels, bool [rows]."""
        predicted = self.predicted()
        return np.asarray((predicted["original"] == predicted["onnx"]).all(axis=-1))

    def max_difference(self) -> float:
        """Largest absolute difference of two scores; NaN where one is."""
        return float(np.abs(np.concatenate(self.original) - np.concatenate(self.onnx)).max())

    def accuracy(self, known: list[int], labels: Sequence[Label]) -> dict[str, float]:
        """Accuracy of each model on the rows `known`; of many labels, all of a row's have to be right."""
        true = np.array(labels).reshape(len(known), -1)
        return {
            name: float((predicted[known] == true).all(axis=-1).mean()) for name, predicted in self.predicted().items()
        }

    def mean_absolute_error(self, known: list[int], labels: Sequence[Label]) -> dict[str, float]:
        """Mean absolute error of each model on the rows `known`."""
        values = {"original": np.concatenate(self.original), "onnx": np.concatenate(self.onnx)}
        return {name: float(np.abs(scores[known, 0] - np.array(labels)).mean()) for name, scores in values.items()}


def require_same(agreement: Agreement) -> None:
    """Raises Disagreement unless every prediction is the same, and every score within TOLERANCE."""
    # Written so that NaN fails.
    is_close = agreement.max_score_difference <= TOLERANCE * max(1.0, agreement.max_score)
    if agreement.same_predictions not in (1.0, None) or not is_close:
        raise Disagreement(f"the exported model differs from the original ({agreement.in_words})")


def require_share(agreement: Agreement, *, min_share: float) -> None:
    """Raises Disagreement unless at least this fraction of the predictions is the same; not for a regression."""
    assert agreement.same_predictions is not None
    if not agreement.same_predictions >= min_share or np.isnan(agreement.max_score_difference):
        raise Disagreement(
            f"the int8 model predicts {agreement.same_predictions:.2%} of {agreement.rows} rows as the original does, "
            f"less than {min_share:.2%}: export without --int8, or allow it with --min_agreement"
        )
