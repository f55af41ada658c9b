"""A small training run for tests: a tiny base model, labelled sentences, and the flags that name them."""

from __future__ import annotations

import json
from pathlib import Path

from src.training.testing.tiny_kinds import build_tiny_chat_model
from src.training.testing.tiny_model import build_tiny_model, write_sentences

# Paths are relative to the folder of `write_run_inputs`: tests set BUILD_WORKING_DIRECTORY to it.
RUN_FLAGS = ("--model_name_or_path", "base", "--train_file", "rows.csv", "--threads", "1", "--max_seq_length", "32")


# A language model of which only the adapter is kept.
LANGUAGE_FLAGS = (
    *("--model_name_or_path", "chat", "--train_file", "chats.jsonl", "--max_steps", "1", "--max_length", "64"),
    *("--max_new_tokens", "2", "--threads", "1", "--save_merged", "false"),
)


def write_language_inputs(folder: Path) -> None:
    """Writes the language model and the rows that LANGUAGE_FLAGS name."""
    build_tiny_chat_model(folder / "chat")
    rows = [{"prompt": f"the film {row} was", "completion": " good"} for row in range(20)]
    (folder / "chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_run_inputs(folder: Path, *, rows: int) -> None:
    """Writes the base model and the rows that RUN_FLAGS name."""
    build_tiny_model(folder / "base")
    write_sentences(folder / "rows.csv", rows=rows, seed=0)
