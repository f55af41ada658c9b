"""What counts as the same model, and the rows it is compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.cli.errors import RequestError
from src.training.data.class_labels import ClassLabels
from src.training.export.agreement import (
    Agreement,
    CheckRows,
    Disagreement,
    compare,
    read_check_rows,
    require_same,
    require_share,
)
from src.training.inference.classifier import load_classifier
from src.training.inference.model_folder import find_trained_model
from src.training.testing.tiny_model import build_tiny_model, write_sentences

SAME = Agreement(
    rows=200,
    same_predictions=1.0,
    max_score_difference=1e-6,
    max_score=1.0,
    labelled_rows=0,
    accuracy=None,
    mean_absolute_error=None,
    seconds_a_row={"original": 1.0, "onnx": 1.0},
)


def test_rows_come_with_the_classes_that_the_model_knows(tmp_path: Path) -> None:
    path = write_sentences(tmp_path / "rows.csv", rows=4, seed=1)
    rows = read_check_rows(path, text=None, label=None, labels=ClassLabels(("positive", "negative")))
    assert (rows.origin, len(rows.texts), rows.labels) == ("rows.csv", 4, (1, 0, 1, 0))
    assert read_check_rows(path, text=None, label=None, labels=ClassLabels(("a", "b"))).labels == (None,) * 4


def test_rows_need_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"said": "a good film"}\n{"said": "a bad film"}\n')
    rows = read_check_rows(path, text=None, label=None, labels=ClassLabels(("a", "b")))
    assert (rows.texts, rows.labels) == (("a good film", "a bad film"), (None, None))
    with pytest.raises(RequestError, match="rows.jsonl has no column 'stars'"):
        read_check_rows(path, text=None, label="stars", labels=ClassLabels(("a", "b")))


def test_an_empty_text_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na good film,1\n  ,0\n")
    with pytest.raises(RequestError, match="rows.csv, line 3: text is empty"):
        read_check_rows(path, text="text", label=None, labels=ClassLabels(("0", "1")))


def test_float32_must_agree_on_every_prediction_and_nearly_every_digit() -> None:
    require_same(SAME)
    mistakes: list[dict[str, Any]] = [
        {"same_predictions": 0.995},
        {"max_score_difference": 2e-4},
        {"max_score_difference": float("nan")},
    ]
    for wrong in mistakes:
        with pytest.raises(Disagreement, match="differs from the original"):
            require_same(dataclasses.replace(SAME, **wrong))


def test_values_of_a_regression_are_judged_by_their_size() -> None:
    require_same(dataclasses.replace(SAME, max_score=1000.0, max_score_difference=0.05))


def test_int8_must_agree_on_a_share_of_the_predictions() -> None:
    nearly = dataclasses.replace(SAME, same_predictions=0.99, max_score_difference=0.2)
    require_share(nearly, min_share=0.99)
    with pytest.raises(Disagreement, match="predicts 99.00% of 200 rows as the original does, less than 99.50%"):
        require_share(nearly, min_share=0.995)
    with pytest.raises(Disagreement):
        require_share(dataclasses.replace(SAME, max_score_difference=float("nan")), min_share=0.0)


class _Changed:
    """Stands in for an exported model: scores as the original does, and then changes them."""

    def __init__(self, original: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._original, self._change = original, change

    def score_batch(self, batch: Any) -> np.ndarray:
        return self._change(self._original.score_batch(batch))


def _only_in_batches(scores: np.ndarray) -> np.ndarray:
    return scores if len(scores) > 1 else scores[:, ::-1]


@pytest.mark.parametrize(
    ("change", "same"),
    [(lambda scores: scores, 1.0), (lambda scores: scores[:, ::-1], 0.0), (_only_in_batches, 0.0)],
)
def test_a_row_is_the_same_only_if_it_is_alone_and_among_others(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], same: float
) -> None:
    original = load_classifier(find_trained_model(build_tiny_model(tmp_path / "model", head=2)))
    texts = ("the film was good", "dull", "the story is bad", "a very good film")
    rows = CheckRows(origin="rows", texts=texts, labels=(0, None, 1, None))
    changed: Any = _Changed(original, change)
    found = compare(original, changed, rows)
    assert (found.rows, found.labelled_rows, found.same_predictions) == (4, 2, same)
    assert found.accuracy is not None
    assert min(found.seconds_a_row.values()) > 0
