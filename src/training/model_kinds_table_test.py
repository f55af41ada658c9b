"""The table of model kinds in the documentation, and a sample of what it says, from the base model to ONNX."""

from __future__ import annotations

from pathlib import Path

from src.training.testing.mapped_kinds import architectures
from src.training.testing.sweep_model_kinds import rows_by_kind, sweep_kind


def test_the_table_has_every_kind_that_transformers_classifies_texts_with() -> None:
    # If this fails: bazel run //src/training/testing:sweep_model_kinds [-- KIND ...]
    wanted = architectures()
    rows = rows_by_kind()
    assert [*rows] == [*wanted]
    for model_type, row in rows.items():
        _, _, architecture, trains, exports, _ = (cell.strip() for cell in row.split("|"))
        assert architecture == wanted[model_type]
        assert trains == "yes" or trains.startswith("no: ")
        assert exports == "yes" or exports.startswith("no: ") or (trains != "yes" and not exports)


def test_an_encoder_with_a_decoder_does_all_that_the_table_says(tmp_path: Path) -> None:
    # It returns a cache, which no graph holds; model_kinds_test has the more common kinds.
    assert sweep_kind("mt5", tmp_path).row(architectures()["mt5"]) == rows_by_kind()["mt5"]


def test_a_kind_that_needs_a_missing_library_is_refused(tmp_path: Path) -> None:
    assert sweep_kind("layoutlmv2", tmp_path).row(architectures()["layoutlmv2"]) == rows_by_kind()["layoutlmv2"]
