"""Which folders are trained models, and what their files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.inference.model_folder import find_trained_model
from src.training.testing.tiny_model import POSITIONS, build_tiny_model


def _edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_model_without_a_recipe_reads_all_it_can(tmp_path: Path) -> None:
    found = find_trained_model(build_tiny_model(tmp_path / "model", head=3))
    assert (found.class_names, found.max_seq_length) == (("LABEL_0", "LABEL_1", "LABEL_2"), POSITIONS)
    assert (found.fingerprint, found.is_classifier) == (None, True)
    assert found.weight_bytes == (tmp_path / "model" / "model.safetensors").stat().st_size


def test_texts_are_truncated_as_in_training_by_default(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    (folder / "recipe.json").write_text('{"fingerprint": "f", "recipe": {"max_seq_length": 12}}')
    assert find_trained_model(folder).max_seq_length == 12
    assert find_trained_model(folder).fingerprint == "f"
    assert find_trained_model(folder, max_seq_length=20).max_seq_length == 20
    with pytest.raises(RequestError, match=f"--max_seq_length must be at most {POSITIONS} for .*, not {POSITIONS + 1}"):
        find_trained_model(folder, max_seq_length=POSITIONS + 1)


def test_roberta_reads_fewer_tokens_than_it_has_positions(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    _edit(folder / "config.json", model_type="roberta", pad_token_id=1)
    _edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert find_trained_model(folder).max_seq_length == POSITIONS - 2


def test_a_tokenizers_limit_is_the_default_and_not_the_limit(tmp_path: Path) -> None:
    # Training, too, goes by the model's positions.
    folder = build_tiny_model(tmp_path / "model", head=2)
    _edit(folder / "tokenizer_config.json", model_max_length=10)
    assert find_trained_model(folder).max_seq_length == 10
    assert find_trained_model(folder, max_seq_length=POSITIONS).max_seq_length == POSITIONS


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_values_and_independent_labels_are_no_classes(tmp_path: Path, problem_type: str) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    _edit(folder / "config.json", problem_type=problem_type)
    assert not find_trained_model(folder).is_classifier


def test_what_is_no_trained_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    build_tiny_model(tmp_path / "base")
    build_tiny_model(tmp_path / "pickled", head=2, pickled=True)
    damaged = build_tiny_model(tmp_path / "damaged", head=2)
    (damaged / "config.json").write_text("{")
    wordless = build_tiny_model(tmp_path / "wordless", head=2)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (wordless / name).unlink(missing_ok=True)
    for name, words in {
        "nowhere": "nowhere does not exist: name the folder of a trained model",
        "file": "file is a file: name the folder",
        "empty": "empty has no config.json",
        "adapter": "adapter holds an adapter alone: name the folder that a run wrote it into",
        "base": r"base has a model without a classification head \(BertModel\)",
        "pickled": r"pickled has no \*.safetensors",
        "damaged": "config.json cannot be read",
        "wordless": "wordless has no tokenizer files",
    }.items():
        with pytest.raises(RequestError, match=words):
            find_trained_model(tmp_path / name)
