"""What is said of scored rows: the problem's loss over all of them, whatever the batches, and values as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from src.training.data.batches import EncodedExamples
from src.training.evaluation.scoring import evaluate
from src.training.testing.problems import CLASSES, VALUES, WEIGHTED_CLASSES
from src.training.testing.tiny_model import build_tiny_model


def build(folder: Path, *, outputs: int) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    return AutoModelForSequenceClassification.from_pretrained(build_tiny_model(folder / "tiny", head=outputs)).eval()


def rows(labels: np.ndarray, *, types: bool = False) -> EncodedExamples:
    random = np.random.default_rng(1)
    texts = [[2, *random.integers(10, 40, random.integers(1, 12)), 3] for _ in labels]
    ids = np.concatenate(texts).astype(np.int32)
    return EncodedExamples(
        ids=ids,
        starts=np.cumsum([0, *map(len, texts)]),
        labels=labels,
        pad_id=0,
        types=(np.arange(len(ids)) % 2).astype(np.int8) if types else None,
    )


def logits_of(model: Any, chosen: EncodedExamples) -> torch.Tensor:
    """One row at a time, float32 [rows, outputs]."""
    batches = ({**chosen.batch([row])} for row in range(len(chosen)))
    with torch.inference_mode():
        return torch.cat(
            [model(**{name: batch[name] for name in batch if name != "labels"}).logits for batch in batches]
        )


@pytest.mark.parametrize("size", [4, 30])
def test_the_loss_is_weighted_over_all_rows_and_the_accuracy_is_not(tmp_path: Path, size: int) -> None:
    model, chosen = build(tmp_path, outputs=3), rows(np.arange(30) % 5 % 3)
    scored = evaluate(model, chosen, split="test", problem=WEIGHTED_CLASSES, batch_size=size)
    logits, labels = logits_of(model, chosen), torch.from_numpy(chosen.labels)
    weighted = functional.cross_entropy(logits, labels, weight=torch.tensor(WEIGHTED_CLASSES.class_weights))
    assert scored.metrics.loss == pytest.approx(float(weighted), rel=1e-5)
    assert scored.metrics.loss != pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-3)
    assert scored.metrics.as_json()["accuracy"] == pytest.approx(float((logits.argmax(dim=1) == labels).float().mean()))


@pytest.mark.parametrize("size", [4, 30])
def test_values_come_back_in_the_order_of_the_rows(tmp_path: Path, size: int) -> None:
    model, chosen = build(tmp_path, outputs=1), rows(np.linspace(-2, 2, 30, dtype=np.float32))
    scored = evaluate(model, chosen, split="test", problem=VALUES, batch_size=size)
    wanted = logits_of(model, chosen)[:, 0]
    assert scored.predicted.tolist() == pytest.approx(wanted.tolist(), abs=1e-5)
    assert scored.predicted.dtype == np.float32
    assert scored.metrics.loss == pytest.approx(
        float(((wanted - torch.from_numpy(chosen.labels)) ** 2).mean()), rel=1e-5
    )


def test_token_types_reach_the_model(tmp_path: Path) -> None:
    model = build(tmp_path, outputs=2)
    labels = np.zeros(12, np.int64)
    with_types, without = (
        evaluate(model, rows(labels, types=types), split="test", problem=CLASSES, batch_size=4)
        for types in (True, False)
    )
    assert with_types.metrics.loss != without.metrics.loss
    logits = logits_of(model, rows(labels, types=True))
    assert with_types.confidence.tolist() == pytest.approx(logits.softmax(dim=1).max(dim=1).values.tolist(), abs=1e-5)
