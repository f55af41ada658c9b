"""Trains two steps of each kind of model and prints what came of each: hashes of the files, and all scores.

    python -m src.training.bits.trainings MATERIAL OUTPUT

MATERIAL is a folder of `write_material`; the last line is JSON, {training: what artifact_content() returns}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from src.training.testing.artifact_content import artifact_content
from src.training.testing.tiny_kinds import build_tiny_chat_model, build_tiny_kind
from src.training.testing.tiny_model import (
    build_tiny_model,
    write_conversations,
    write_pairs,
    write_ratings,
    write_sentences,
)
from src.training.train_model import main as train

_STEPS, _BATCH = 2, 8
_COMMON = (
    *("--reproducible", "portable", "--threads", "1", "--max_seq_length", "24", "--learning_rate", "1e-2"),
    *("--per_device_train_batch_size", str(_BATCH), "--num_train_epochs", "1"),
)


def _rows(name: str, ending: str = "csv") -> tuple[str, ...]:
    parts = ("train", "validation", "test")
    return tuple(word for part in parts for word in (f"--{part}_file", f"{name}_{part}.{ending}"))


_SENTENCES = _rows("sentences")
_CONVERSATIONS = (*_rows("conversations", "jsonl"), "--max_generate_samples", "3", "--max_new_tokens", "4")
# Base model, rows, and settings that come after the common ones.
TRAININGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "one layer": ("small", _SENTENCES),
    "three layers": ("minilm", _SENTENCES),
    "two processes": ("minilm", (*_SENTENCES, "--threads", "2")),
    "not fused": ("modernbert", _SENTENCES),
    "regression": ("small", (*_rows("ratings"), "--label_column_name", "rating")),
    "pairs": ("small", (*_rows("pairs"), "--text_column_name", "first", "--text_pair_column_name", "second")),
    "weighted classes": ("small", (*_SENTENCES, "--class_weights", "1,2.7", "--lr_scheduler_type", "cosine")),
    "early stopping": (
        "small",
        (*_SENTENCES, "--early_stopping_patience", "1", "--num_train_epochs", "8", "--max_grad_norm", "0.1"),
    ),
    # As without --max_seq_length, which is a classifier's.
    "language model": ("chat", (*_CONVERSATIONS, "--threads", "2", "--max_seq_length", "128")),
}


def write_material(folder: Path) -> Path:
    """Writes the base models and rows into a folder that it makes; returns the folder."""
    folder.mkdir()
    build_tiny_model(folder / "small")
    for kind in ("minilm", "modernbert"):
        build_tiny_kind(folder / kind, kind)
    build_tiny_chat_model(folder / "chat")
    for name, write in (
        *(("sentences.csv", write_sentences), ("ratings.csv", write_ratings), ("pairs.csv", write_pairs)),
        ("conversations.jsonl", write_conversations),
    ):
        for seed, part in enumerate(("train", "validation", "test")):
            write(folder / name.replace(".", f"_{part}."), rows=_STEPS * _BATCH if part == "train" else 9, seed=seed)
    return folder


def main(arguments: list[str]) -> int:
    """Entry point; trains what is named after the two folders, by default all."""
    material, output = map(Path, arguments[:2])
    os.environ["BUILD_WORKING_DIRECTORY"] = str(material)
    # What Bazel says to a test would move the outputs and set a deadline.
    for name in ("TEST_TIMEOUT", "TEST_UNDECLARED_OUTPUTS_DIR"):
        os.environ.pop(name, None)
    found = {}
    for name in arguments[2:] or TRAININGS:
        base, settings = TRAININGS[name]
        folder = output / name.replace(", ", "_").replace(" ", "_")
        if code := train(["--model_name_or_path", base, *_COMMON, *settings, "--output_dir", str(folder)]):
            return code
        found[name] = artifact_content(folder)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
