"""What a command line is turned into, and every refusal that needs no data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.cli.working_folder import working_folder
from src.training.recipes.files import shipped_recipes
from src.training.recipes.recipe import FIELDS
from src.training.run import script_flags
from src.training.run.options import OPTIONS
from src.training.run.request import Request, argument_parser, cross_field_mistakes, parse_request

OWN_DATA = ("--train_file", "train.csv")
OWN_MODEL = ("--model_name_or_path", "embedded:minilm-l6")


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with files to train on, far from what Bazel says to a test."""
    for name in ("TEST_TIMEOUT", "TEST_UNDECLARED_OUTPUTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text("text,label\na film,1\n")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "state.json").write_text("{}")
    return tmp_path


def never() -> str:
    raise AssertionError("the default recipe was asked for")


def parse(*arguments: str) -> Request:
    return parse_request(arguments, default_recipe=never)


def refusal(*arguments: str) -> str:
    with pytest.raises(RequestError) as raised:
        parse(*arguments)
    return str(raised.value)


def test_a_language_model_takes_all_rows_of_ones_own_at_the_usual_rate() -> None:
    recipe = parse(*OWN_DATA, "--task", "text-generation").recipe
    assert recipe.model_name_or_path == "embedded:smollm2-135m-instruct"
    assert (recipe.max_train_samples, recipe.max_eval_samples, recipe.max_predict_samples) == (None, None, None)
    assert recipe.learning_rate is None
    own = parse("--task", "text-generation").recipe
    assert (own.max_train_samples, own.learning_rate) == (384, 4e-3)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["--recipe", "sst2_bert_tin"], "no recipe 'sst2_bert_tin' (did you mean sst2_bert_tiny?)"),
        (["--recipe", "nowhere.yaml"], "nowhere.yaml cannot be read (No such file or directory)"),
        (["--recipe", "embedded", "--learning_rat", "1"], "--learning_rat is not a flag (did you mean learning_rate?)"),
        (["--recipe", "embedded", "--learning_rat=1"], "--learning_rat is not a flag (did you mean learning_rate?)"),
        (["--recipe", "embedded", "--ouput_dir", "x"], "--ouput_dir is not a flag (did you mean output_dir?)"),
        (["--recipe", "embedded", "stray"], "unexpected argument 'stray'"),
        (["--recipe", "embedded", "--seed"], "seed needs a value"),
        (["--recipe", "embedded", "--output_dir"], "--output_dir needs a value"),
        (["--recipe"], "--recipe needs a value"),
        (["--recipe", "embedded", "--seed", "-1"], "seed must be a whole number from 0 to 4294967295, not '-1'"),
        (["--recipe", "embedded", "--seed", "1.5"], "seed must be a whole number from 0 to 4294967295, not '1.5'"),
        (["--recipe", "embedded", "--learning_rate", "fast"], "learning_rate must lie between 0 and 1, not 'fast'"),
        (["--recipe", "embedded", "--threads", "0"], "threads must be a whole number above 0, not '0'"),
        (["--recipe", "embedded", "--lr_scheduler_type", "cubic"], "must be linear, cosine or constant, not 'cubic'"),
        (["--recipe", "embedded", "--deadline_seconds", "soon"], "must be a number of seconds, 0 or more, not 'soon'"),
        (["--recipe", "embedded", "--debug", "maybe"], "--debug must be true or false, not 'maybe'"),
        (["--recipe", "embedded", "--resume_from_checkpoint", "yes"], "must be auto, true or false, not 'yes'"),
        ([*OWN_MODEL, "--train_file", "no.csv"], "train_file no.csv does not exist"),
        ([*OWN_MODEL, "--train_file", "train.xlsx"], "train_file train.xlsx is a spreadsheet: save it as csv"),
        ([*OWN_MODEL, "--train_file", "."], "train_file . is not a folder saved by datasets"),
        (
            [*OWN_MODEL, *OWN_DATA, "--test_file", "half"],
            "test_file half is not a complete dataset (dataset_info.json is",
        ),
        (
            [*OWN_MODEL, "--dataset_name", "./half"],
            "dataset_name ./half is not a complete dataset (dataset_info.json is",
        ),
        ([*OWN_MODEL, *OWN_DATA, "--validation_file", "no.csv"], "validation_file no.csv does not exist"),
        (["--recipe", "embedded", "--test_file", "dev.csv"], "test_file needs train_file"),
        (
            [*OWN_MODEL, *OWN_DATA, "--dataset_name", "nyu-mll/glue"],
            "dataset_name and train_file are mutually exclusive",
        ),
        (
            ["--model_name_or_path", "embedded:minilm"],
            "model_name_or_path embedded:minilm is unknown (did you mean embedded:minilm-l6?)",
        ),
        (["--dataset_name", "embedded:reviews"], "dataset_name embedded:reviews is unknown"),
    ],
)
def test_a_wrong_request_is_refused_and_says_what_is_wrong(arguments: list[str], phrase: str) -> None:
    message = refusal(*arguments)
    assert phrase in message
    assert "mistakes in the request" not in message


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (["--recipe", "embedded", "--sed", "1", "--epochs", "2"], ["--sed is not a flag", "--epochs is not a flag"]),
        (["--recipe", "embedded", "--sed", "1", "--seed", "x"], ["--sed is not a flag", "seed must be"]),
        (["--recipe", "embeded", "--seed", "x"], ["seed must be", "no recipe 'embeded' (did you mean embedded?)"]),
        (["--seed", "x", "--output_dir"], ["--output_dir needs a value", "seed must be"]),
        ([*OWN_MODEL, "--train_file", "no.csv", "--seed", "x"], ["seed must be"]),
        (
            [*OWN_MODEL, "--train_file", "no.csv", "--validation_file", "none.csv"],
            ["train_file no.csv does not exist", "validation_file none.csv does not exist"],
        ),
    ],
)
def test_mistakes_are_reported_together(arguments: list[str], phrases: list[str]) -> None:
    message = refusal(*arguments)
    assert [phrase for phrase in phrases if phrase not in message] == []
    if len(phrases) > 1:
        assert message.startswith(f"{len(phrases)} mistakes in the request: ")


def test_a_wrong_flag_and_a_missing_file_are_reported_together() -> None:
    message = refusal(*OWN_MODEL, "--train_file", "no.csv", "--seed", "x")
    assert "seed must be" in message
    assert "no.csv does not exist" in message


def test_a_flag_with_hyphens_is_named_as_it_was_typed() -> None:
    assert "--train-file is not a flag (did you mean train_file?)" in refusal(*OWN_MODEL, "--train-file", "train.csv")


@pytest.mark.parametrize("value", ["nan", "-5"])
def test_a_deadline_that_no_clock_reaches_is_refused(value: str) -> None:
    assert "deadline_seconds must be" in refusal("--recipe", "embedded", "--deadline_seconds", value)


def test_a_saved_dataset_needs_no_model_named_as_a_file_needs_none(user_folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": ["a film"], "label": [1]}).save_to_disk(user_folder / "saved")
    for flag, name in (("--dataset_name", "./saved"), ("--train_file", "saved")):
        request = parse(flag, name)
        assert getattr(request.recipe, flag[2:]) == name
        assert request.recipe_name == "custom"
        assert request.recipe.model_name_or_path == "embedded:minilm-l6"


def test_a_missing_file_is_reported_before_the_hub_is_asked() -> None:
    assert "no.csv does not exist" in refusal("--train_file", "no.csv")


def test_a_mistake_in_a_recipe_file_and_one_in_a_flag_are_reported_together(user_folder: Path) -> None:
    (user_folder / "mine.yaml").write_text("train_file: train.csv\nmodel_name_or_path: bert\nsed: 1\n")
    message = refusal("--recipe", "mine.yaml", "--threads", "many")
    assert "threads must be a whole number above 0, not 'many'" in message
    assert "sed is not a key of a recipe (did you mean seed?)" in message


def test_a_recipe_file_without_model_or_rows_is_refused(user_folder: Path) -> None:
    (user_folder / "mine.yaml").write_text("seed: 1\n")
    message = refusal("--recipe", "mine.yaml")
    assert "model_name_or_path is missing" in message
    assert "the rows to train on are missing" in message


def test_the_default_recipe_is_asked_for_only_when_nothing_is_named() -> None:
    asked = parse_request([], default_recipe=lambda: "embedded")
    assert asked.recipe_name == "embedded"
    assert asked.recipe.dataset_name == "embedded:movie_reviews"
    for named in (["--recipe", "embedded"], [*OWN_MODEL], [*OWN_MODEL, *OWN_DATA], ["--dataset_name", "imdb"]):
        # It refuses to name a default.
        parse(*named)


def test_mistakes_in_flags_are_reported_without_asking_for_the_default_recipe() -> None:
    assert "seed must be" in refusal("--seed", "x")


def test_own_rows_are_trained_on_with_the_model_that_serves_them_and_its_settings() -> None:
    # The hub is not asked.
    asked = parse("--train_file", "train.csv")
    assert asked.recipe_name == "custom"
    recipe = asked.recipe
    assert recipe.model_name_or_path == "embedded:minilm-l6"
    assert (recipe.learning_rate, recipe.num_train_epochs, recipe.per_device_train_batch_size) == (1e-4, 2, 32)
    assert (recipe.dataset_name, recipe.train_fraction, recipe.text_column_name) == (None, 1.0, None)


def test_own_rows_are_trained_on_with_the_small_model_by_name() -> None:
    recipe = parse("--recipe", "embedded", "--train_file", "train.csv").recipe
    assert (recipe.model_name_or_path, recipe.learning_rate) == ("embedded:bert_tiny_minilm", 1e-3)
    # What described the other dataset is gone.
    assert (recipe.dataset_name, recipe.text_column_name) == (None, None)


@pytest.mark.parametrize(
    ("named", "goes_with"),
    [
        (("--model_name_or_path", "embedded:minilm-l6"), ("dataset_name", "embedded:movie_reviews")),
        (("--model_name_or_path", "prajjwal1/bert-mini"), ("dataset_name", "nyu-mll/glue")),
        (("--dataset_name", "embedded:movie_reviews"), ("model_name_or_path", "embedded:bert_tiny_minilm")),
        (("--dataset_name", "stanfordnlp/imdb"), ("model_name_or_path", "prajjwal1/bert-tiny")),
    ],
)
def test_what_is_named_is_taken_and_the_other_half_goes_with_it(
    named: tuple[str, str], goes_with: tuple[str, str]
) -> None:
    recipe = parse(*named).recipe
    assert getattr(recipe, named[0].removeprefix("--")) == named[1]
    assert getattr(recipe, goes_with[0]) == goes_with[1]


@pytest.mark.parametrize("words", [("q_proj", "v_proj"), ("q_proj,v_proj",), ("q_proj, v_proj",)])
def test_several_modules_are_named_in_one_flag(words: tuple[str, ...]) -> None:
    recipe = parse(*OWN_DATA, *OWN_MODEL, "--lora_target_modules", *words, "--seed", "1").recipe
    assert recipe.lora_target_modules == ("q_proj", "v_proj")
    assert recipe.seed == 1


def test_what_is_for_classifiers_is_refused_for_a_language_model() -> None:
    message = refusal(*OWN_DATA, *OWN_MODEL, "--task", "text-generation", "--max_seq_length", "64")
    assert message == "max_seq_length is for text-classification, use max_length"


def test_flags_win_over_the_recipe() -> None:
    recipe = parse("--recipe", "embedded", "--seed", "7", "--learning_rate=2e-4", "--load_best_model_at_end").recipe
    assert (recipe.seed, recipe.learning_rate, recipe.load_best_model_at_end) == (7, 2e-4, True)
    assert recipe.per_device_train_batch_size == 64
    assert parse("--recipe", "embedded", "--load_best_model_at_end", "false").recipe.load_best_model_at_end is False


def test_paths_are_relative_to_the_folder_the_user_typed_in(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert working_folder() == user_folder
    assert parse("--recipe", "embedded", "--output_dir", "out").options.output_dir == user_folder / "out"
    assert parse("--recipe", "embedded", "--output_dir", "/out").options.output_dir == Path("/out")
    monkeypatch.delenv("BUILD_WORKING_DIRECTORY")
    monkeypatch.chdir(user_folder.parent)
    assert working_folder() == user_folder.parent


def test_a_test_stops_before_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("--recipe", "embedded").options.deadline_seconds is None
    monkeypatch.setenv("TEST_TIMEOUT", "60")
    assert parse("--recipe", "embedded").options.deadline_seconds == pytest.approx(51)
    assert parse("--recipe", "embedded", "--deadline_seconds", "5").options.deadline_seconds == 5


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_whole(name: str) -> None:
    rows = OWN_DATA if name == "own_rows" else ()
    assert cross_field_mistakes(parse("--recipe", name, *rows).recipe) == []


def test_help_names_every_recipe_and_shows_defaults() -> None:
    text = " ".join(argument_parser().format_help().split())
    assert all(name in text for name in shipped_recipes())
    assert "(default: 0.01)" in text
    assert "85 % of the time limit" in text


def test_help_has_groups_and_lists_choices() -> None:
    text = argument_parser().format_help()
    groups = ["recipe:", "base model:", "data:", "training:", "reproducibility:", "run (does not change the model):"]
    lines = text.splitlines()
    assert [line for line in lines if line in groups] == groups
    assert "--lr_scheduler_type {linear,cosine,constant}" in text
    assert "--seed N " in text
    assert "--debug [true|false]" in text


def test_flags_of_the_script_of_transformers_that_say_what_happens_anyway_are_taken() -> None:
    pasted = ["--do_train", "--do_eval", "True", "--do_predict", "--report_to", "none", "--fp16", "False"]
    plain = parse(*OWN_MODEL, *OWN_DATA)
    assert parse(*OWN_MODEL, *OWN_DATA, *pasted, "--eval_strategy", "epoch", "--shuffle_train_dataset") == plain


def test_flags_of_the_script_of_transformers_are_taken_by_our_names() -> None:
    joined = ("--text_column_names", "title,body", "--text_column_delimiter", " - ", "--do_regression")
    recipe = parse(*OWN_MODEL, *OWN_DATA, *joined).recipe
    assert (recipe.text_column_name, recipe.text_column_delimiter) == ("title,body", " - ")
    assert recipe.problem_type == "regression"


@pytest.mark.parametrize(
    ("flags", "phrase"),
    [
        (
            ["--do_train", "false"],
            "--do_train false: every run trains: to score texts",
        ),
        (
            ["--report_to", "tensorboard", "wandb"],
            "tensorboard wandb: losses and scores are in events.jsonl",
        ),
        (
            ["--hub_token", "x"],
            "--hub_token: set the environment variable HF_TOKEN",
        ),
        (["--hub_model_id", "me/film"], "--hub_model_id needs --push_to_hub true"),
        (["--logging_steps=10"], "--logging_steps 10: the loss is in events.jsonl"),
        (["--eval_steps", "50"], "--eval_steps 50: rows are scored after each epoch"),
        (["--save_steps", "500"], "--save_steps 500: checkpoints are saved by time: use --checkpoint_seconds"),
        (
            ["--metric_for_best_model", "f1"],
            "f1: the best epoch is that of the highest accuracy",
        ),
        (["--warmup_steps", "10"], "use --warmup_ratio"),
        (["--fp16"], "--fp16: CPUs train in float32 here"),
    ],
)
def test_other_flags_of_the_script_name_what_stands_for_them(flags: list[str], phrase: str) -> None:
    message = refusal(*OWN_MODEL, *OWN_DATA, *flags, "--seed", "x")
    assert phrase in message
    assert message.startswith("2 mistakes in the request: ")


def test_no_flag_of_the_script_hides_one_of_ours() -> None:
    assert not set(script_flags.FLAGS) & {*FIELDS, *OPTIONS}
    assert all(f"--{flag} " not in argument_parser().format_help() for flag in script_flags.FLAGS)


@pytest.mark.parametrize("arguments", [["--help"], ["--recipe", "nosuch"], [*OWN_MODEL, "--train_file", "no.csv"]])
def test_help_and_refusals_load_nothing_heavy(arguments: list[str]) -> None:
    program = """
import sys
from src.training.train_model import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print("loaded:", sorted({"torch", "transformers", "datasets", "numpy", "pyarrow"} & set(sys.modules)), code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    wanted = 0 if arguments == ["--help"] else 2
    assert done.stdout.splitlines()[-1] == f"loaded: [] {wanted}"
    # One sentence, and no traceback.
    assert done.stderr.count("\n") == (0 if wanted == 0 else 1)
