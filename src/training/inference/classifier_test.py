"""Scores are those of transformers' own pipeline, whatever is scored beside a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, pipeline

from src.cli.errors import RequestError
from src.training.inference.classifier import Classifier, load_classifier
from src.training.inference.model_folder import find_trained_model
from src.training.testing.tiny_model import build_tiny_model

TEXTS = ("the film was good", "dull", "the story was not very very very good, the film is awful!", "a " * 60, "dull")


def _load(folder: Path) -> Classifier:
    return load_classifier(find_trained_model(folder))


def _pipeline_scores(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    """Scores of the pipeline, one text at a time, float [texts, classes]."""
    classify: Any = pipeline("text-classification", model=str(folder), device="cpu")
    names = find_trained_model(folder).class_names
    rows = []
    for text in texts:
        scores = {row["label"]: row["score"] for row in classify(text, top_k=None, truncation=True)}
        rows.append([scores[name] for name in names])
    return np.array(rows)


@pytest.mark.parametrize(
    ("classes", "problem_type"),
    [
        (2, None),
        (5, "single_label_classification"),
        (3, "multi_label_classification"),
        (1, "regression"),
        (1, None),
    ],
)
def test_scores_equal_those_of_the_pipeline(tmp_path: Path, classes: int, problem_type: str | None) -> None:
    folder = build_tiny_model(tmp_path / "model", head=classes)
    config = AutoConfig.from_pretrained(folder)
    config.problem_type = problem_type
    config.save_pretrained(folder)
    scores = _load(folder).scores(TEXTS, batch_size=2)
    assert scores.shape == (len(TEXTS), classes)
    np.testing.assert_allclose(scores, _pipeline_scores(folder, TEXTS), atol=1e-6)


def test_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    classifier = _load(build_tiny_model(tmp_path / "model", head=2))
    alone = np.concatenate([classifier.scores([text], batch_size=1) for text in TEXTS])
    np.testing.assert_allclose(classifier.scores(TEXTS, batch_size=64), alone, atol=1e-6)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "classifier" not in name}, folder / "model.safetensors"
    )
    with pytest.raises(RequestError, match=r"lacks weights of its model \(classifier.bias, classifier.weight\)"):
        _load(folder)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(RequestError, match="cannot be loaded as a text classifier"):
        _load(folder)
