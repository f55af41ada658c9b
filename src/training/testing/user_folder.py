"""A user's folder with a model and rows, which programs are called from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from src.training.testing.forked_runs import load_libraries, start, wait
from src.training.testing.program_runs import called_from
from src.training.testing.tiny_kinds import build_tiny_chat_model
from src.training.testing.tiny_model import build_tiny_model, write_conversations, write_sentences


def write_inputs(
    folder: Path, *, train: int, dev: int = 0, test: int = 0, noisy: bool = False, language: bool = False
) -> Path:
    """Writes a base model and CSV files of so many sentences: base, train.csv, dev.csv, test.csv; returns the folder.

    Args:
        folder: exists.
        train: rows to train on.
        dev: rows to score after each epoch; 0: no file.
        test: rows for the final scores; 0: no file.
        noisy: many labels of train and dev rows are wrong, so that the last epoch is not the best one.
        language: and a language model, chat, with as many conversations: train.jsonl, dev.jsonl, test.jsonl.
    """
    build_tiny_model(folder / "base")
    if language:
        build_tiny_chat_model(folder / "chat")
    for name, rows, seed, noise in (("train", train, 1, 0.3), ("dev", dev, 3, 0.2), ("test", test, 2, 0.0)):
        if rows:
            write_sentences(folder / f"{name}.csv", rows=rows, seed=seed, noise=noise if noisy else 0.0)
        if rows and language:
            write_conversations(folder / f"{name}.jsonl", rows=rows, seed=seed)
    return folder


def write_inputs_in_a_fork(folder: Path, *, train: int, dev: int, test: int) -> Path:
    """Writes noisy inputs with a language model by a child: this process stays without threads, to fork from."""
    load_libraries()

    def work() -> int:
        write_inputs(folder, train=train, dev=dev, test=test, noisy=True, language=True)
        return 0

    assert wait(start(work, log=folder.parent / "inputs.log")) == 0
    return folder


def copy_of_inputs(inputs: Path, tmp_path: Path) -> Iterator[Path]:
    """A fixture, made by `pytest.fixture(copy_of_inputs)`: a copy of the fixture `inputs`, as the user's folder."""
    folder = shutil.copytree(inputs, tmp_path / "user")
    with called_from(folder):
        yield folder
