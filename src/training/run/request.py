"""What a user asked for: flags -> a recipe and run options, with every mistake told at once.

Nothing heavy is imported here: a wrong request is answered before torch would have loaded.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.cli.parser import RefusingParser
from src.cli.working_folder import working_folder
from src.training.data.saved_dataset import saved_dataset_fault, saved_dataset_folder, saved_dataset_mistakes
from src.training.embedded import locate
from src.training.recipes import files as recipe_files
from src.training.recipes import recipe as recipes
from src.training.recipes.recipe import FIELDS, Recipe
from src.training.run.options import OPTIONS, SWITCHES, RunOptions, parse_options

FILE_KINDS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".json.gz", ".jsonl.gz")
_DATA_FILES = ("train_file", "validation_file", "test_file")

_DESCRIPTION = """\
Fine-tunes a text classifier on CPUs.

  --recipe embedded                                a run that needs no network
  --train_file my.csv --validation_file dev.csv    rows of your own
  --model_name_or_path embedded:minilm-l6          another base model

Exit codes: 0 done; 2 the request was wrong; 3 stopped with a checkpoint, the same command goes on; 1 anything else."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked request. `defaulted` tells what the user left open, for the line that says so."""

    recipe_name: str
    recipe: Recipe
    options: RunOptions
    defaulted: bool


def argument_parser() -> argparse.ArgumentParser:
    """Returns the parser behind --help. Values stay strings: they are judged with those of the recipe file."""
    parser = RefusingParser(
        prog="train_model",
        usage="bazel run //src/training:train_model -- [--recipe NAME] [--FLAG VALUE ...]",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_DESCRIPTION,
    )
    options = parser.add_argument_group("options")
    for name, doc in OPTIONS.items():
        _add_flag(options, name, doc=doc, switch=name in SWITCHES)
    fields = parser.add_argument_group("recipe")
    for name, field in FIELDS.items():
        doc = field.metadata["doc"] + ("" if field.default in (None, "") else f" (default: {field.default})")
        _add_flag(fields, name, doc=doc.replace("%", "%%"), switch=field.type == "bool")
    return parser


def _add_flag(group: argparse._ArgumentGroup, name: str, *, doc: str, switch: bool) -> None:
    # Optional values: a flag without one is told along with the other mistakes.
    group.add_argument(
        f"--{name}",
        nargs="?",
        const="true" if switch else None,
        default=argparse.SUPPRESS,
        metavar="true|false" if switch else "VALUE",
        help=doc,
    )


def parse_request(arguments: Sequence[str], *, default_recipe: Callable[[], str]) -> Request:
    """Turns a command line into a request.

    Args:
        arguments: the command line without the program's name.
        default_recipe: names the recipe to start from when none is given; asked only then.

    Raises:
        RequestError: one sentence that names every mistake.
    """
    given, unknown = argument_parser().parse_known_args(arguments)
    flags = vars(given)
    mistakes = [_unknown_argument(argument) for argument in _without_values(unknown)]
    options, option_mistakes = parse_options({key: flags.pop(key) for key in list(flags) if key in OPTIONS})
    mistakes += option_mistakes
    overrides, override_mistakes = recipes.parse_fields(flags)
    mistakes += override_mistakes
    mistakes += file_mistakes(overrides)
    name = options.pop("recipe", None)
    if name is None and mistakes:
        # Which recipe would be the default is asked of the hub, and may take seconds.
        raise _told(mistakes)
    try:
        recipe_name, raw, defaulted = _base_recipe(name, overrides, default_recipe)
    except RequestError as error:
        raise _told([*mistakes, str(error)]) if mistakes else error from error
    values, recipe_mistakes = recipes.parse_fields(raw)
    recipe = Recipe(**recipes.merge(values, overrides))
    mistakes += recipe_mistakes + cross_field_mistakes(recipe)
    if mistakes:
        raise _told(mistakes)
    return Request(recipe_name=recipe_name, recipe=recipe, options=RunOptions(**options), defaulted=defaulted)


def _base_recipe(
    name: str | None, overrides: Mapping[str, Any], default_recipe: Callable[[], str]
) -> tuple[str, dict[str, Any], bool]:
    """Returns the recipe's name, its raw fields, and whether it was chosen for want of a word from the user."""
    if name is not None:
        return Path(name).stem, recipe_files.read_recipe(name, folder=working_folder()), False
    model, data = overrides.get("model_name_or_path"), overrides.get("dataset_name") or overrides.get("train_file")
    if model and data:
        return "custom", {}, False
    named = model or overrides.get("dataset_name")
    if named is not None and (model or saved_dataset_folder(named, folder=working_folder()) is None):
        # What was named must be had. The other half goes with it: embedded with embedded, hub with hub.
        base = "embedded" if named.startswith(locate.PREFIX) else "sst2_bert_tiny"
        return "custom", recipe_files.read_recipe(base, folder=working_folder()), False
    base = default_recipe()
    return "custom" if data else base, recipe_files.read_recipe(base, folder=working_folder()), True


def cross_field_mistakes(recipe: Recipe) -> list[str]:
    """Returns one phrase for each thing that fields say wrongly together, or of files that are not there."""
    mistakes = []
    if not recipe.model_name_or_path:
        mistakes.append("model_name_or_path is missing")
    if recipe.dataset_name and recipe.train_file:
        mistakes.append("dataset_name and train_file exclude each other")
    if not recipe.dataset_name and not recipe.train_file:
        mistakes.append("the rows to train on are missing (give train_file or dataset_name)")
    for key in _DATA_FILES[1:]:
        if getattr(recipe, key) is not None and not recipe.train_file:
            mistakes.append(f"{key} goes with train_file")
    if recipe.early_stopping_threshold and recipe.early_stopping_patience is None:
        mistakes.append("early_stopping_threshold goes with early_stopping_patience")
    return mistakes + file_mistakes(dataclasses.asdict(recipe))


def file_mistakes(values: Mapping[str, Any]) -> list[str]:
    """Returns one phrase for each named file that cannot be read from, and each unknown embedded name."""
    mistakes = []
    for key in _DATA_FILES:
        value = values.get(key)
        if value is None:
            continue
        path = working_folder() / Path(value).expanduser()
        if path.is_dir():
            mistakes += [f"{key} {value} {fault}"] if (fault := saved_dataset_fault(path)) else []
        elif not value.lower().endswith(FILE_KINDS):
            mistakes.append(f"{key} must end in {', '.join(FILE_KINDS)}, or be a saved dataset's folder, not {value!r}")
        elif not path.is_file():
            mistakes.append(f"{key} {value} does not exist")
    mistakes += saved_dataset_mistakes(values, folder=working_folder())
    for key, valid in (("model_name_or_path", locate.MODELS), ("dataset_name", locate.DATASETS)):
        value = values.get(key) or ""
        if value.startswith(locate.PREFIX) and value.removeprefix(locate.PREFIX) not in valid:
            names = [locate.PREFIX + name for name in valid]
            near = recipes.did_you_mean(value, names)
            mistakes.append(f"{key} {value} is unknown{near}: {', '.join(names)} are there")
    return mistakes


def _told(mistakes: list[str]) -> RequestError:
    """Returns the error that names every mistake once."""
    told = list(dict.fromkeys(mistakes))
    head = f"{len(told)} mistakes in the request: " if len(told) > 1 else ""
    return RequestError(head + "; ".join(told))


def _without_values(unknown: list[str]) -> list[str]:
    """Drops the words that follow an unknown flag: they are its values."""
    return [word for at, word in enumerate(unknown) if at == 0 or word.startswith("-")]


def _unknown_argument(argument: str) -> str:
    if not argument.startswith("-"):
        return f"{argument!r} stands alone: every argument is a --flag with its value"
    flag = argument.partition("=")[0]
    near = recipes.did_you_mean(flag.lstrip("-").replace("-", "_"), [*FIELDS, *OPTIONS])
    return f"{flag} is not a flag{near}"
