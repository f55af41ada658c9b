"""The card: a header that the hub can read, and nothing in it that varies from run to run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from src.training.problems.regression.metrics import ValueMetrics
from src.training.report.model_card import model_card
from src.training.testing.example_run import example_regression, example_run

HUB: dict[str, Any] = {
    **{"dataset_name": "nyu-mll/glue", "dataset_config_name": "sst2", "dataset_revision": "abc", "train_file": None},
    **{"model_name_or_path": "prajjwal1/bert-tiny", "model_revision": "def"},
}


def card(**given: Any) -> str:
    return model_card(example_run(**given))


def header(text: str) -> dict[str, Any]:
    opening, front, _ = text.split("---\n", 2)
    assert opening == ""
    loaded = yaml.safe_load(front)
    assert isinstance(loaded, dict)
    return loaded


def test_the_header_names_what_the_hub_can_link_to() -> None:
    told = header(card(**HUB))
    assert (told["base_model"], told["datasets"]) == ("prajjwal1/bert-tiny", ["nyu-mll/glue"])
    assert (told["pipeline_tag"], told["library_name"]) == ("text-classification", "transformers")


def test_the_header_names_nothing_that_is_not_on_the_hub() -> None:
    told = header(card())
    assert not {"base_model", "datasets"} & set(told)
    # A colon cannot stand in a repository's name.
    assert told["model-index"][0]["results"][0]["dataset"]["type"] == "file:my.csv"
    saved = header(card(train_file=None, dataset_name="./of/mine"))
    assert saved["model-index"][0]["results"][0]["dataset"]["type"] == "file:mine"


def test_the_hubs_own_reader_finds_the_results() -> None:
    told = ModelCard(card(**HUB)).data
    assert isinstance(told, ModelCardData)
    assert told.model_name == "mine"
    assert told.eval_results is not None
    accuracy, f1 = told.eval_results
    assert (accuracy.metric_type, accuracy.metric_value, f1.metric_type) == ("accuracy", 0.875, "f1")
    assert (accuracy.dataset_type, accuracy.dataset_config, accuracy.dataset_split) == ("nyu-mll/glue", "sst2", "test")
    assert accuracy.dataset_revision == "abc"


def test_numbers_before_and_after_are_in_the_table() -> None:
    text = card()
    assert "| test: 1,000 rows | before | after |" in text
    assert "| accuracy | 0.5000 | 0.8750 |" in text
    assert "| 95 % interval | 0.4691 to 0.5309 | 0.8531 to 0.8941 |" in text


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (875, "375 right that were wrong, 0 wrong that were right: better, by more than noise"),
        (503, "3 right that were wrong, 0 wrong that were right: the difference may well be noise"),
    ],
)
def test_the_card_says_whether_the_difference_is_noise(right: int, told: str) -> None:
    assert told in card(right_after=right)


def test_the_card_says_what_was_trained_on_what() -> None:
    text = card(learning_rate=1e-3, num_train_epochs=1.5, reproducible="portable")
    assert "A text classifier (bad, good), fine-tuned on CPUs from embedded:minilm-l6 on my.csv." in text
    assert "9,000 rows for 1.5 epochs in batches of 16, peak learning rate 0.001, seed 42" in text


def test_of_many_classes_ten_are_named() -> None:
    text = card(names=tuple(f"c{number}" for number in range(30)))
    assert "(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 …)" in text


def test_names_out_of_the_data_are_no_markup() -> None:
    text = card(names=("<script>alert(1)</script>", "a\n# [heading](x)"))
    assert "(\\<script\\>alert(1)\\</script\\>, a # \\[heading\\](x))" in text


def test_every_place_in_the_card_is_filled_in() -> None:
    text = card()
    assert "{{" not in text
    assert "None" not in text


def test_the_same_run_gives_the_same_card() -> None:
    assert card() == card()


def test_a_regression_tells_its_errors_and_correlations() -> None:
    run = example_regression(label_column_name="rating")
    metrics = run.after.metrics.as_json()
    text = model_card(run)
    assert "A regression model that predicts a number (rating) for texts, fine-tuned on CPUs" in text
    assert f"| {metrics['mae']:.4f} |" in text
    low, high = metrics["mae_ci95"]
    assert f"{low:.4f} to {high:.4f} |" in text
    assert "nearer to their label," in text
    assert "Wilcoxon's signed-rank test, p < 0.001" in text
    assert not {"accuracy", "McNemar"} & set(text.replace(",", " ").split())
    told = ModelCard(text).data
    assert isinstance(told, ModelCardData)
    assert told.eval_results is not None
    found = {result.metric_type: result.metric_value for result in told.eval_results}
    assert list(found) == ["mae", "mse", "pearsonr", "spearmanr", "r_squared"]
    assert found["mae"] == round(metrics["mae"], 6)


def test_scores_that_are_not_defined_are_left_out_of_the_header() -> None:
    run = example_regression()
    undefined: Any = {"pearson": None, "spearman": None, "r2": None, "mae_ci95": None, "mse": float("nan")}
    assert isinstance(run.after.metrics, ValueMetrics)
    after = dataclasses.replace(run.after, metrics=dataclasses.replace(run.after.metrics, **undefined))
    text = model_card(dataclasses.replace(run, after=after))
    assert [result["type"] for result in header(text)["model-index"][0]["results"][0]["metrics"]] == ["mae"]
    assert "None" not in text
    assert "nan" not in text


def test_a_model_of_pairs_shows_how_a_pair_is_asked_about() -> None:
    run = example_run(rows=10, right_before=5, right_after=8)
    pairs = dataclasses.replace(run.test, text_pairs=tuple("b" for _ in range(10)))
    text = model_card(dataclasses.replace(run, test=pairs))
    assert "A classifier of pairs of texts (bad, good), fine-tuned" in text
    assert '({"text": "This movie was really good!", "text_pair": "I liked the film."})' in text
