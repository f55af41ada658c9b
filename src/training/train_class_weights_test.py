"""Class weights from end to end: what they change, and what is refused."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from src.training.testing.program_runs import read_json, run_in
from src.training.testing.tiny_model import build_tiny_model
from src.training.train_model import main

COMMON = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "24", "--per_device_train_batch_size", "8", "--learning_rate", "3e-3"),
    *("--threads", "1", "--output_dir", "out"),
)


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of which few are positive, not even most of those with the positive word."""
    folder = tmp_path_factory.mktemp("rare")
    build_tiny_model(folder / "base")
    rows = {
        "train": [("good", "positive")] * 32 + [("good", "negative")] * 48 + [("bad", "negative")] * 120,
        "test": [("good", "positive")] * 10 + [("bad", "negative")] * 10,
    }
    choose = random.Random(0)
    for name, examples in rows.items():
        # By chance: a number that went up would tell the label.
        lines = (f"the film {choose.randrange(10_000)} was {word},{label}\n" for word, label in examples)
        (folder / f"{name}.csv").write_text("text,label\n" + "".join(lines))
    return folder


def _recalls(folder: Path) -> list[float]:
    matrix = read_json(folder / "out" / "metrics.json")["after"]["confusion_matrix"]
    return [row[at] / sum(row) for at, row in enumerate(matrix)]


def test_weights_make_the_rare_class_count(rare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = (*COMMON, "--num_train_epochs", "10", "--overwrite_output_dir", "--load_best_model_at_end", "false")
    outcomes = {}
    for weights in ("none", "balanced", "1,5", "5,1"):
        assert run_in(rare, main, *run, "--class_weights", weights) == 0
        recipe = read_json(rare / "out" / "recipe.json")
        digest = hashlib.sha256((rare / "out" / "model.safetensors").read_bytes()).hexdigest()
        outcomes[weights] = (_recalls(rare)[1], digest, recipe["fingerprint"])
    printed = capsys.readouterr().out
    assert printed.count("Class weights: negative 0.") == 1
    assert "Class weights: negative 1, positive 5" in printed
    # Two of five with `good` are positive: too few, unless each of them counts more.
    assert outcomes["none"][0] < outcomes["balanced"][0]
    assert outcomes["5,1"][0] < outcomes["1,5"][0]
    for part in (1, 2):
        assert len({each[part] for each in outcomes.values()}) == 4


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("1,2,3", "class_weights has 3 numbers for 2 classes: give one for each, in the order negative, "),
        ("1,0", "class_weights must be none, balanced, or a number above 0 for each class"),
        ("balnced", "class_weights must be none, balanced, or a number above 0 for each class"),
    ],
)
def test_wrong_weights_are_refused(rare: Path, weights: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in(rare, main, *COMMON, "--class_weights", weights) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == 1
