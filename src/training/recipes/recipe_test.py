"""Values as people write them in YAML and on a command line, and every mistake in them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean
from src.training.recipes.files import RECIPES, read_recipe, shipped_recipes
from src.training.recipes.recipe import (
    DATA_FIELDS,
    FIELDS,
    MODEL_FIELDS,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    Recipe,
    merge,
    parse_fields,
    with_task_defaults,
)


def value(key: str, raw: Any) -> Any:
    values, mistakes = parse_fields({key: raw})
    assert mistakes == []
    return values[key]


def mistake(key: str, raw: Any) -> str:
    values, mistakes = parse_fields({key: raw})
    assert values == {}
    [phrase] = mistakes
    return phrase


def read(folder: Path, content: str, name: str = "mine.yaml") -> dict[str, Any]:
    (folder / name).write_text(content)
    return read_recipe(name, folder=folder)


def test_a_number_that_yaml_takes_for_a_string_is_a_number(tmp_path: Path) -> None:
    raw = read(tmp_path, "learning_rate: 1e-3\n")
    assert raw == {"learning_rate": "1e-3"}, "YAML 1.1 wants 1.0e-3"
    assert value("learning_rate", raw["learning_rate"]) == 0.001


@pytest.mark.parametrize(
    ("key", "raw", "wanted"),
    [
        ("seed", "7", 7),
        ("seed", 7.0, 7),
        ("seed", "4294967295", 2**32 - 1),
        ("max_train_samples", "1e3", 1000),
        ("max_train_samples", None, None),
        ("num_train_epochs", 2, 2.0),
        ("num_train_epochs", "0.5", 0.5),
        ("validation_fraction", None, None),
        ("text_column_name", 1999, "1999"),
        ("text_column_name", None, None),
        ("label_column_name", "stars", "stars"),
        ("reproducible", "off", "off"),
    ],
)
def test_values_take_the_type_of_their_field(key: str, raw: Any, wanted: Any) -> None:
    converted = value(key, raw)
    assert (converted, type(converted)) == (wanted, type(wanted))


def test_reproducible_off_can_be_written_without_quotes(tmp_path: Path) -> None:
    assert value("reproducible", read(tmp_path, "reproducible: off\n")["reproducible"]) == "off"


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (True, True),
        ("true", True),
        ("True", True),
        ("yes", True),
        (1, True),
        (False, False),
        ("no", False),
        ("0", False),
    ],
)
def test_booleans_are_taken_as_people_write_them(raw: Any, wanted: bool) -> None:
    assert value("load_best_model_at_end", raw) is wanted


@pytest.mark.parametrize(
    ("key", "raw", "message"),
    [
        ("seed", "x", "seed must be a whole number from 0 to 4294967295, not 'x'"),
        ("seed", 2**32, "seed must be a whole number from 0 to 4294967295, not 4294967296"),
        ("seed", None, "seed needs a value, not None"),
        ("seed", True, "seed must be a whole number from 0 to 4294967295, not True"),
        ("seed", [1], "seed must be a whole number from 0 to 4294967295, not [1]"),
        ("max_seq_length", 0, "max_seq_length must be a whole number above 0, not 0"),
        ("max_seq_length", 1.5, "max_seq_length must be a whole number above 0, not 1.5"),
        ("max_seq_length", "inf", "max_seq_length must be a whole number above 0, not 'inf'"),
        ("learning_rate", "nan", "learning_rate must lie between 0 and 1, not 'nan'"),
        ("learning_rate", 0, "learning_rate must lie between 0 and 1, not 0"),
        ("train_fraction", 1.01, "train_fraction must be above 0 and at most 1, not 1.01"),
        ("warmup_ratio", 1, "warmup_ratio must be 0 or more, below 1, not 1"),
        ("weight_decay", -0.1, "weight_decay must be 0 or more, not -0.1"),
        ("num_train_epochs", "inf", "num_train_epochs must be above 0, not 'inf'"),
        ("split_unit", "word", "split_unit must be row or sentence, not 'word'"),
        ("load_best_model_at_end", "maybe", "load_best_model_at_end must be true or false, not 'maybe'"),
        ("model_name_or_path", {"a": 1}, "model_name_or_path must be a single value, not {'a': 1}"),
    ],
)
def test_a_wrong_value_is_reported_with_what_it_must_be(key: str, raw: Any, message: str) -> None:
    assert mistake(key, raw) == message


def test_a_misspelt_key_is_reported_with_the_nearest_one() -> None:
    assert mistake("lerning_rate", 1) == "lerning_rate is not a key of a recipe (did you mean learning_rate?)"
    assert mistake("xyz", 1) == "xyz is not a key of a recipe"


def test_all_mistakes_are_reported_and_the_rest_is_still_read() -> None:
    values, mistakes = parse_fields({"sed": 1, "threads": 0, "seed": 3})
    assert values == {"seed": 3}
    assert [phrase.split()[0] for phrase in mistakes] == ["sed", "threads"]


def test_every_field_has_a_doc_and_a_default_that_it_would_take() -> None:
    for name, field in FIELDS.items():
        assert field.metadata["doc"], name
        if field.default is not None:
            assert value(name, field.default) == field.default


def test_another_dataset_drops_what_described_the_old_one() -> None:
    recipe = dict.fromkeys(DATA_FIELDS, "old") | {"seed": 1, "model_name_or_path": "bert"}
    assert merge(recipe, {"dataset_name": "imdb"}) == {
        "dataset_name": "imdb",
        "seed": 1,
        "model_name_or_path": "bert",
    }
    assert merge(recipe, {"train_file": "a.csv", "split_unit": "row"}) == {
        "train_file": "a.csv",
        "split_unit": "row",
        "seed": 1,
        "model_name_or_path": "bert",
    }


def test_another_model_drops_commit_and_hash_of_the_old_one() -> None:
    recipe = dict.fromkeys(MODEL_FIELDS, "old") | {"dataset_name": "imdb"}
    assert merge(recipe, {"model_name_or_path": "new"}) == {"model_name_or_path": "new", "dataset_name": "imdb"}


def test_other_overrides_drop_nothing() -> None:
    recipe = read_recipe("sst2_bert_tiny", folder=Path())
    assert merge(recipe, {"train_fraction": 0.1, "seed": 1}) == recipe | {"train_fraction": 0.1, "seed": 1}


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_opens_with_its_command_and_has_no_mistake(name: str) -> None:
    text = (RECIPES / f"{name}.yaml").read_text()
    assert (
        text.splitlines()[0].removesuffix(" --train_file rows.csv")
        == f"# bazel run //src/training:train_model -- --recipe {name}"
    )
    values, mistakes = parse_fields(read_recipe(name, folder=Path()))
    assert mistakes == []
    assert Recipe(**values).description


def test_the_two_recipes_ship() -> None:
    assert {"embedded", "sst2_bert_tiny"} <= set(shipped_recipes())


@pytest.mark.parametrize(
    ("task", "use_peft", "wanted"),
    [
        (TEXT_CLASSIFICATION, None, (False, 5e-5, 2.0)),
        (TEXT_CLASSIFICATION, True, (True, 5e-4, 2.0)),
        (TEXT_GENERATION, None, (True, 5e-4, 1.0)),
        (TEXT_GENERATION, False, (False, 2e-5, 1.0)),
    ],
)
def test_defaults_depend_on_the_task(task: str, use_peft: bool | None, wanted: tuple[bool, float, float]) -> None:
    filled = with_task_defaults(Recipe(use_peft=use_peft), task=task)
    assert (filled.use_peft, filled.learning_rate, filled.num_train_epochs) == wanted
    given = Recipe(use_peft=use_peft, learning_rate=0.1, num_train_epochs=3.0)
    filled = with_task_defaults(given, task=task)
    assert (filled.learning_rate, filled.num_train_epochs, filled.task) == (0.1, 3.0, task)


def test_a_recipe_is_read_back_from_json(tmp_path: Path) -> None:
    import json

    recipe = Recipe(model_name_or_path="bert", train_file="a.csv", learning_rate=1e-5, seed=3)
    raw = read(tmp_path, json.dumps(dataclasses.asdict(recipe)), "mine.json")
    values, mistakes = parse_fields(raw)
    assert (Recipe(**values), mistakes) == (recipe, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: [1\n", "mine.yaml is not valid YAML: .*line 2"),
        ("seed: !!python/object/apply:os.getcwd []\n", "mine.yaml is not valid YAML"),
        ("- seed\n", "mine.yaml must hold `key: value` lines"),
        ("", "mine.yaml must hold `key: value` lines"),
    ],
    ids=["syntax", "code", "a list", "empty"],
)
def test_a_recipe_file_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        read(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_a_missing_recipe_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="mine.yaml cannot be read .No such file"):
        read_recipe("mine.yaml", folder=tmp_path)
    with pytest.raises(
        RequestError, match=r"no recipe 'embeded' \(did you mean embedded\?\): choose one of embedded, "
    ):
        read_recipe("embeded", folder=tmp_path)


def test_nothing_far_off_is_suggested() -> None:
    assert did_you_mean("zzz", ["seed", "threads"]) == ""


def test_delimiters_and_encodings_are_named_as_users_name_them() -> None:
    for given, delimiter in ((";", ";"), ("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), (None, None)):
        assert parse_fields({"delimiter": given, "encoding": "Latin1"}) == (
            {"delimiter": delimiter, "encoding": "Latin1"},
            [],
        )
    assert [*parse_fields({"delimiter": ";;", "encoding": "base64", "quoting": "all"}, prefix="--")[1]] == [
        "--delimiter must be one character, or tab, comma, semicolon, pipe or space, not ';;'",
        "--encoding must be the name of a text encoding, such as utf-8, cp1252, utf-16 or gb18030, not 'base64'",
        "--quoting must be minimal or none, not 'all'",
    ]
