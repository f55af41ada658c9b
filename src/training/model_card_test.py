"""The card: a header that the hub can read, and nothing in it that varies from run to run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import yaml

from src.training.metrics import Metrics, score
from src.training.model_card import model_card
from src.training.recipe import Recipe

NAMES = ("bad", "good")


def metrics(right: int, names: tuple[str, ...] = NAMES) -> Metrics:
    true = np.zeros(1000, np.int64)
    return score(
        split="test", loss=0.25, predicted=(np.arange(1000) >= right).astype(int), true=true, class_names=names
    )


def card(names: tuple[str, ...] = NAMES, **fields: Any) -> str:
    recipe = Recipe(**{"model_name_or_path": "embedded:minilm-l6", "train_file": "my.csv", **fields})
    document = {"recipe": dataclasses.asdict(recipe)}
    return model_card(document, title="mine", before=metrics(500, names), after=metrics(875, names), train_rows=9000)


def header(text: str) -> dict[str, Any]:
    opening, front, _ = text.split("---\n", 2)
    assert opening == ""
    loaded = yaml.safe_load(front)
    assert isinstance(loaded, dict)
    return loaded


def test_the_header_names_what_the_hub_can_link_to() -> None:
    fields: dict[str, Any] = {"dataset_name": "nyu-mll/glue", "dataset_revision": "abc", "train_file": None}
    told = header(card(model_name_or_path="prajjwal1/bert-tiny", model_revision="def", **fields))
    assert (told["base_model"], told["datasets"]) == ("prajjwal1/bert-tiny", ["nyu-mll/glue"])
    assert (told["pipeline_tag"], told["library_name"]) == ("text-classification", "transformers")


def test_the_header_names_nothing_that_is_not_on_the_hub() -> None:
    assert not {"base_model", "datasets"} & set(header(card()))


def test_numbers_before_and_after_are_in_the_table() -> None:
    text = card()
    assert "| test: 1,000 rows | before | after |" in text
    assert "| accuracy | 0.5000 | 0.8750 |" in text
    assert "| 95 % interval | 0.4691 to 0.5309 | 0.8531 to 0.8941 |" in text


def test_the_card_says_what_was_trained_on_what() -> None:
    text = card(learning_rate=1e-3, num_train_epochs=1.5, reproducible="portable")
    assert "A text classifier (bad, good), fine-tuned on CPUs from embedded:minilm-l6 on my.csv." in text
    assert "9,000 rows for 1.5 epochs in batches of 16, peak learning rate 0.001, seed 42" in text


def test_of_many_classes_ten_are_named() -> None:
    text = card(tuple(f"c{number}" for number in range(30)))
    assert "(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 …)" in text


def test_every_place_in_the_card_is_filled_in() -> None:
    text = card()
    assert "{{" not in text
    assert "None" not in text
