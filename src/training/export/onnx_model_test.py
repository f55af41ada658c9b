"""Exported graphs of several kinds of models say what the models say, for any number of texts and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from src.training.export.onnx_model import OnnxClassifier, quantize, write_onnx
from src.training.inference.classifier import Classifier, load_classifier
from src.training.inference.model_folder import find_trained_model
from src.training.testing.mapped_kinds import build_mapped_kind
from src.training.testing.tiny_model import POSITIONS, VOCABULARY, build_tiny_model

TEXTS = ("a", "the film was good", "the story was not very very very good, the film is awful!", "a " * 60)
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS + 2,
}


@dataclass(frozen=True)
class Kind:
    """Parameters of a kind of model, beside SIZES."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


KINDS = (
    Kind("bert"),
    Kind("roberta", {"pad_token_id": 0}),
    Kind("distilbert", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    Kind("modernbert", {"local_attention": 8, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}),
)


def _build(folder: Path, kind: Kind) -> Classifier:
    """A random model of this kind with the tiny tokenizer; its attention is the one to export."""
    build_tiny_model(folder, head=3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = AutoConfig.for_model(kind.name, **{**SIZES, **kind.fields}, num_labels=3)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return load_classifier(replace(find_trained_model(folder), max_seq_length=POSITIONS), attention="eager")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_graph_scores_any_batch_as_the_model_does(tmp_path: Path, kind: Kind) -> None:
    eager = _build(tmp_path / "model", kind)
    write_onnx(eager, tmp_path / "model.onnx")
    original = load_classifier(eager.source)
    exported = OnnxClassifier(tmp_path / "model.onnx", original=original)
    assert exported.input_names == original.input_names
    for size in (1, 2, len(TEXTS)):
        for batch in original.batches(TEXTS, batch_size=size):
            np.testing.assert_allclose(exported.score_batch(batch), original.score_batch(batch), atol=1e-5)


def test_an_export_that_fails_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # torch prints the graph, from C++.
    classifier = load_classifier(find_trained_model(build_mapped_kind(tmp_path / "fnet", "fnet")))
    with pytest.raises(RuntimeError, match="fft"):
        write_onnx(classifier, tmp_path / "model.onnx")
    assert capfd.readouterr().out == ""


def test_what_the_tokenizer_makes_can_be_fed_as_it_is(tmp_path: Path) -> None:
    classifier = _build(tmp_path / "model", KINDS[0])
    write_onnx(classifier, tmp_path / "model.onnx")
    exported = OnnxClassifier(tmp_path / "model.onnx", original=classifier)
    made = classifier.tokenizer(["the film", "a good story was bad"], padding=True, return_tensors="pt")
    assert set(exported.input_names) == set(made)
    # A pair of texts tells them apart by token_type_ids: an exchange of inputs would show here.
    pair = dict(classifier.tokenizer([["the film", "good"]], return_tensors="pt"))
    np.testing.assert_allclose(exported.score_batch(pair), classifier.score_batch(pair), atol=1e-5)


def test_an_export_has_the_same_bits_twice_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    classifier = _build(tmp_path / "model", KINDS[0])
    before = classifier.scores(TEXTS, batch_size=2)
    for name in ("one", "two"):
        write_onnx(classifier, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    np.testing.assert_array_equal(classifier.scores(TEXTS, batch_size=2), before)


def test_quantized_weights_take_a_byte_each(tmp_path: Path) -> None:
    classifier = _build(tmp_path / "model", Kind("bert", {"vocab_size": 20_000}))
    write_onnx(classifier, tmp_path / "full.onnx")
    quantize(tmp_path / "full.onnx", tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * (tmp_path / "full.onnx").stat().st_size
    exported = OnnxClassifier(tmp_path / "int8.onnx", original=classifier)
    for batch in classifier.batches(TEXTS, batch_size=2):
        np.testing.assert_allclose(exported.score_batch(batch), classifier.score_batch(batch), atol=0.02)
