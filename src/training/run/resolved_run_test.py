"""The fingerprint: the same for the same run, another for anything that changes its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from src.cli.errors import RequestError
from src.training.recipes.recipe import Recipe
from src.training.run import resolved_run
from src.training.run.resolved_run import ResolvedRun, resolve_run
from src.training.testing.tiny_model import build_tiny_model
from src.training.testing.user_folder import copy_of_inputs, write_inputs

FIELDS = {"model_name_or_path": "base", "train_file": "train.csv", "validation_file": "dev.csv", "threads": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"), train=20, dev=10)


user_folder = pytest.fixture(copy_of_inputs)


def resolve(folder: Path, **fields: Any) -> ResolvedRun:
    return resolve_run(Recipe(**{**FIELDS, **fields}), folder=folder)


def test_names_and_places_of_the_inputs_do_not_matter(user_folder: Path, inputs: Path) -> None:
    before = resolve(inputs).fingerprint
    (user_folder / "train.csv").rename(user_folder / "rows.csv")
    (user_folder / "base").rename(user_folder / "model")
    assert (
        resolve(user_folder, train_file="rows.csv", model_name_or_path=str(user_folder / "model")).fingerprint == before
    )
    assert (
        resolve(user_folder, train_file="rows.csv", model_name_or_path="model", description="x").fingerprint == before
    )


def test_the_kind_of_file_does_not_matter(user_folder: Path) -> None:
    before = resolve(user_folder).fingerprint
    content = (user_folder / "train.csv").read_text()
    (user_folder / "train.tsv").write_text(content.replace(",", "\t"))
    assert resolve(user_folder, train_file="train.tsv").fingerprint == before


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("seed", 43),
        ("threads", 2),
        ("learning_rate", 1e-4),
        ("weight_decay", 0.0),
        ("max_grad_norm", 0.5),
        ("warmup_ratio", 0.1),
        ("lr_scheduler_type", "cosine"),
        ("num_train_epochs", 1.0),
        ("per_device_train_batch_size", 8),
        ("max_seq_length", 16),
        ("reproducible", "off"),
        ("validation_fraction", 0.2),
        ("max_train_samples", 10),
        ("max_eval_samples", 5),
        ("train_fraction", 0.5),
        ("class_weights", "balanced"),
        ("class_weights", (1.0, 3.0)),
        ("max_steps", 5),
        ("gradient_accumulation_steps", 2),
        ("use_peft", True),
    ],
)
def test_every_setting_that_decides_the_model_or_its_numbers_matters(user_folder: Path, field: str, other: Any) -> None:
    assert resolve(user_folder, **{field: other}).fingerprint != resolve(user_folder).fingerprint


def test_what_came_with_language_models_leaves_the_fingerprints_of_classifiers_as_they_were(user_folder: Path) -> None:
    before = {
        *("class_weights", "early_stopping_patience", "early_stopping_threshold", "learning_rate", "lr_scheduler_type"),
        *("max_grad_norm", "max_seq_length", "num_train_epochs", "per_device_train_batch_size", "reproducible"),
        *("seed", "warmup_ratio", "weight_decay"),
    }
    deciding = resolve(user_folder).deciding
    assert deciding["settings"].keys() == before
    assert deciding.keys() == {"trainer", "settings", "threads", "selects_epoch", "model", "data"}
    for field in ({"lora_r": 4}, {"max_length": 64}, {"max_new_tokens": 3}, {"use_peft": False}):
        assert resolve(user_folder, **field).fingerprint == resolve(user_folder).fingerprint
    assert resolve(user_folder, use_peft=True).fingerprint != resolve(user_folder, use_peft=True, lora_r=4).fingerprint


@pytest.mark.parametrize("name", ["train.csv", "dev.csv"])
def test_every_label_matters(user_folder: Path, name: str) -> None:
    before = resolve(user_folder).fingerprint
    content = (user_folder / name).read_text()
    (user_folder / name).write_text(content.replace("negative", "positive", 1))
    assert resolve(user_folder).fingerprint != before


def test_the_version_of_the_trainer_matters(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve(user_folder)
    # 1 had no field: square roots that were not exact.
    assert before.deciding["trainer"] == 2
    monkeypatch.setattr(resolved_run, "TRAINER_VERSION", 3)
    assert resolve(user_folder).fingerprint != before.fingerprint


def test_the_base_weights_matter(user_folder: Path) -> None:
    before = resolve(user_folder).fingerprint
    shutil.rmtree(user_folder / "base")
    build_tiny_model(user_folder / "base", seed=1)
    assert resolve(user_folder).fingerprint != before


def test_the_tokenizer_matters(user_folder: Path) -> None:
    before = resolve(user_folder).fingerprint
    path = user_folder / "base" / "tokenizer.json"
    path.write_text(path.read_text().replace('"awful"', '"lovely"'))
    assert resolve(user_folder).fingerprint != before


def test_what_is_no_part_of_a_model_does_not_matter(user_folder: Path) -> None:
    before = resolve(user_folder).fingerprint
    (user_folder / "base" / "README.md").write_text("A card.")
    (user_folder / "base" / "events.jsonl").write_text("{}\n")
    assert resolve(user_folder).fingerprint == before


def test_the_records_of_the_run_that_made_the_base_model_do_not_matter(user_folder: Path) -> None:
    (user_folder / "base" / "metrics.json").write_text('{"train": {"seconds": 1.0}}')
    before = resolve(user_folder).fingerprint
    (user_folder / "base" / "metrics.json").write_text('{"train": {"seconds": 2.0}}')
    assert resolve(user_folder).fingerprint == before


def test_the_document_is_the_same_text_in_another_folder(user_folder: Path, inputs: Path) -> None:
    assert json.dumps(resolve(user_folder).document) == json.dumps(resolve(inputs).document)
    assert str(user_folder) not in json.dumps(resolve(user_folder).document)


def test_wrong_rows_are_told_before_a_model_is_looked_for(user_folder: Path) -> None:
    with pytest.raises(RequestError, match="no column 'stars'"):
        resolve(user_folder, label_column_name="stars", model_name_or_path="./nowhere")


def test_what_the_labels_are_taken_for_matters(user_folder: Path) -> None:
    for name in ("train.csv", "dev.csv"):
        content = (user_folder / name).read_text()
        (user_folder / name).write_text(content.replace("negative", "0").replace("positive", "1"))
    left_open = resolve(user_folder)
    assert resolve(user_folder, problem_type="classification").fingerprint == left_open.fingerprint
    regression = resolve(user_folder, problem_type="regression")
    assert regression.fingerprint != left_open.fingerprint
    assert regression.document["inputs"]["data"]["problem_type"] == "regression"


def test_the_second_text_of_a_pair_matters_and_the_name_of_its_column_does_not(user_folder: Path) -> None:
    def rewrite(column: str, second: str) -> str:
        for name in ("train.csv", "dev.csv"):
            rows = (f"film {row},{second} {row},{row % 2}\n" for row in range(20))
            (user_folder / name).write_text(f"text,{column},label\n" + "".join(rows))
        return resolve(user_folder, text_column_name="text", text_pair_column_name=column).fingerprint

    assert rewrite("second", "story") == rewrite("other", "story") != rewrite("other", "stories")


def test_the_fingerprint_of_a_saved_dataset_is_that_of_the_same_rows_in_a_file(
    user_folder: Path,
) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})

    def dataset(*labels: int) -> datasets.Dataset:
        texts = [f"film {row}" for row in range(len(labels))]
        return datasets.Dataset.from_dict({"text": texts, "label": list(labels)}, features=features)

    labels = [row % 2 for row in range(20)]
    dataset(*labels).save_to_disk(user_folder / "saved")
    dataset(*labels).save_to_disk(user_folder / "shards", num_shards=3)
    dataset(*labels[:-1], 0).save_to_disk(user_folder / "other")
    lines = [f"film {row},{('pos', 'neg')[label]}" for row, label in enumerate(labels)]
    (user_folder / "rows.csv").write_text("\n".join(["text,label", *lines]))

    def found(name: str) -> tuple[str, str]:
        fields = {"train_file": name, "validation_file": None, "text_column_name": "text"}
        run = resolve(user_folder, **fields)
        return run.document["inputs"]["data"]["train"]["sha256"], run.fingerprint

    assert found("saved") == found("shards")
    assert found("saved")[0] != found("other")[0]
    assert found("saved")[1] != found("other")[1]
    # The class names of the source stand in its order, those of a file are sorted: the same rows, another model.
    assert found("saved")[0] == found("rows.csv")[0]
