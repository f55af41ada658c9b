"""A small training run for tests: a tiny base model, labelled sentences, and the flags that name them."""

from __future__ import annotations

from pathlib import Path

from src.training.testing.tiny_model import build_tiny_model, write_sentences

# Paths are relative to the folder of `write_run_inputs`: tests set BUILD_WORKING_DIRECTORY to it.
RUN_FLAGS = ("--model_name_or_path", "base", "--train_file", "rows.csv", "--threads", "1", "--max_seq_length", "32")


def write_run_inputs(folder: Path, *, rows: int) -> None:
    """Writes the base model and the rows that RUN_FLAGS name."""
    build_tiny_model(folder / "base")
    write_sentences(folder / "rows.csv", rows=rows, seed=0)
