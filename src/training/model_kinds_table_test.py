"""A sample of the kinds that transformers makes text classifiers of, from the base model to ONNX."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.training.testing.sweep_model_kinds import sweep_kind


@pytest.mark.parametrize("model_type", ["bart"])
def test_it_trains_resumes_and_predicts(model_type: str, tmp_path: Path) -> None:
    # Encoder and decoder; model_kinds_test has the more common kinds.
    assert sweep_kind(model_type, tmp_path).trains == "yes"


def test_a_kind_that_needs_a_missing_library_is_refused(tmp_path: Path) -> None:
    assert sweep_kind("layoutlmv2", tmp_path).trains.startswith("no: ")
