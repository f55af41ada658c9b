"""What a user asked for: flags -> a recipe and run options, with every mistake reported at once.

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
from src.cli.parser import RefusingParser, did_you_mean
from src.cli.working_folder import working_folder
from src.training.data.files import file_kind_fault
from src.training.data.saved_dataset import saved_dataset_fault, saved_dataset_folder, saved_dataset_mistakes
from src.training.embedded import locate
from src.training.recipes import recipe as recipes
from src.training.recipes.files import read_recipe, shipped_recipes
from src.training.recipes.recipe import FIELDS, Recipe
from src.training.recipes.settings import parse_names, setting
from src.training.run import script_flags
from src.training.run.options import OPTIONS, RunOptions, parse_options

_LANGUAGE_MODEL = "embedded_llm"
_OWN_ROWS = "own_rows"
# Before the names of flags that are another script's.
_SCRIPT = "script "
_DATA_FILES = ("train_file", "validation_file", "test_file")

_DESCRIPTION = """\
Fine-tunes a text classifier or a language model on CPUs.

  --recipe embedded                                a classifier, with no network
  --recipe embedded_llm                            a language model, with no network
  --train_file my.csv --validation_file dev.csv    rows of your own, with the recipe own_rows
  --model_name_or_path embedded:minilm-l6          another base model

Exit codes: 0 done; 2 invalid request; 3 stopped with a checkpoint (rerun the command to resume); 1 any other error."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked request."""

    recipe_name: str
    recipe: Recipe
    options: RunOptions


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows no brackets around a needed value, which argparse takes for optional (see _add_flag)."""

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        text = super()._format_args(action, default_metavar)
        return text if action.const else text.strip("[]")


def argument_parser() -> argparse.ArgumentParser:
    """Returns the parser behind --help. Values stay strings: they are checked with those of the recipe file."""
    parser = RefusingParser(
        prog="train_model",
        usage="bazel run //src/training:train_model -- [--recipe NAME] [--FLAG VALUE ...]",
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
        description=_DESCRIPTION,
    )
    groups = {title: parser.add_argument_group(title) for title in recipes.GROUPS.values()}
    title = "recipe"
    recipe = setting(None, f"recipe to start from: {', '.join(shipped_recipes())}, or the path of a .yaml file")
    _add_flag(groups[title], "recipe", recipe)
    for name, field in FIELDS.items():
        title = recipes.GROUPS.get(name, title)
        _add_flag(groups[title], name, field)
    options = parser.add_argument_group("run (does not change the model)")
    for name, field in OPTIONS.items():
        _add_flag(options, name, field)
    for name in script_flags.FLAGS:
        parser.add_argument(
            f"--{name}", nargs="*", dest=_SCRIPT + name, default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


def _add_flag(group: argparse._ArgumentGroup, name: str, field: dataclasses.Field[Any]) -> None:
    choices, kind = field.metadata["choices"], str(field.type).removesuffix(" | None")
    is_switch, is_list = kind == "bool", field.metadata["convert"] is parse_names
    metavar = {"int": "N", "float": "X", "bool": "true|false"}.get(kind, name.rpartition("_")[2].upper())
    shown = " ".join(field.default) if isinstance(field.default, tuple) else str(field.default).lower()
    default = "" if field.default in (None, "") else f" (default: {shown})"
    # Optional values: a flag without its value is reported with the other mistakes.
    group.add_argument(
        f"--{name}",
        nargs="*" if is_list else "?",
        const="true" if is_switch else None,
        default=argparse.SUPPRESS,
        metavar=f"{{{','.join(choices)}}}" if choices else metavar,
        help=(field.metadata["doc"] + default).replace("%", "%%"),
    )


def parse_request(arguments: Sequence[str], *, default_recipe: Callable[[], str]) -> Request:
    """Turns a command line into a request.

    Args:
        arguments: the command line without the program's name.
        default_recipe: names the recipe to start from when none is given; called only then.

    Raises:
        RequestError: one sentence that names every mistake.
    """
    parsed, unknown = argument_parser().parse_known_args(arguments)
    given = {name: value for name, value in vars(parsed).items() if not name.startswith(_SCRIPT)}
    flags, script_mistakes = script_flags.translate(
        {name.removeprefix(_SCRIPT): value for name, value in vars(parsed).items() if name not in given}
    )
    mistakes = [*(_unknown_argument(argument) for argument in _without_values(unknown)), *script_mistakes]
    mistakes += [f"--{name} needs a value" for name, value in given.items() if value in (None, [])]
    flags |= {name: value for name, value in given.items() if value not in (None, [])}
    recipe_name = flags.pop("recipe", None)
    options, option_mistakes = parse_options({name: flags.pop(name) for name in list(flags) if name in OPTIONS})
    overrides, override_mistakes = recipes.parse_fields(flags, prefix="--")
    if not options.get("push_to_hub"):
        option_mistakes += [f"--{name} needs --push_to_hub true" for name in options if name.startswith("hub_")]
    mistakes += option_mistakes + override_mistakes + file_mistakes(overrides)
    if recipe_name is None and mistakes:
        # Which recipe is the default is asked of the hub, and may take seconds.
        raise _refusal(mistakes)
    try:
        recipe_name, raw = _base_recipe(recipe_name, overrides, default_recipe)
    except RequestError as error:
        raise _refusal([*mistakes, str(error)]) from error
    values, recipe_mistakes = recipes.parse_fields(raw)
    recipe = Recipe(**recipes.merge(values, overrides))
    mistakes += recipe_mistakes + cross_field_mistakes(recipe)
    if mistakes:
        raise _refusal(mistakes)
    return Request(recipe_name=recipe_name, recipe=recipe, options=RunOptions(**options))


def _base_recipe(
    name: str | None, overrides: Mapping[str, Any], default_recipe: Callable[[], str]
) -> tuple[str, dict[str, Any]]:
    """Returns the name and the raw fields of the recipe to start from."""
    if name is not None:
        return Path(name).stem, read_recipe(name, folder=working_folder())
    model, data = overrides.get("model_name_or_path"), overrides.get("dataset_name") or overrides.get("train_file")
    if model and data:
        return "custom", {}
    if overrides.get("task") == recipes.TEXT_GENERATION:
        raw = read_recipe(_LANGUAGE_MODEL, folder=working_folder())
        if not (model or data):
            return _LANGUAGE_MODEL, raw
        # The rate was chosen for its model and rows. Of its own rows it takes some; of others, all.
        del raw["learning_rate"]
        return "custom", {name: value for name, value in raw.items() if not (data and name.endswith("_samples"))}
    named = model or overrides.get("dataset_name")
    if named is not None and (model or saved_dataset_folder(named, folder=working_folder()) is None):
        # What was named must be loaded. The other half goes with it: embedded with embedded, hub with hub.
        base = "embedded" if named.startswith(locate.PREFIX) else "sst2_bert_tiny"
        return "custom", read_recipe(base, folder=working_folder())
    if data:
        return "custom", read_recipe(_OWN_ROWS, folder=working_folder())
    base = default_recipe()
    return base, read_recipe(base, folder=working_folder())


def cross_field_mistakes(recipe: Recipe) -> list[str]:
    """Returns one phrase for each contradiction between fields, and for each missing file."""
    mistakes = []
    if not recipe.model_name_or_path:
        mistakes.append("model_name_or_path is missing")
    if recipe.dataset_name and recipe.train_file:
        mistakes.append("dataset_name and train_file are mutually exclusive")
    if not recipe.dataset_name and not recipe.train_file:
        mistakes.append("the rows to train on are missing (give train_file or dataset_name)")
    for key in _DATA_FILES[1:]:
        if getattr(recipe, key) is not None and not recipe.train_file:
            mistakes.append(f"{key} needs train_file")
    mistakes += recipes.task_mistakes(recipe)
    if recipe.bf16 and recipe.reproducible == "portable":
        mistakes.append(
            "bf16 needs reproducible machine or off: portable promises the bits of CPUs that do not multiply bfloat16"
        )
    if recipe.early_stopping_threshold and recipe.early_stopping_patience is None:
        mistakes.append("early_stopping_threshold needs early_stopping_patience")
    return mistakes + file_mistakes(dataclasses.asdict(recipe))


def file_mistakes(values: Mapping[str, Any]) -> list[str]:
    """Returns one phrase for each file that cannot be read, and each unknown embedded name."""
    mistakes = []
    for key in _DATA_FILES:
        value = values.get(key)
        if value is None:
            continue
        path = working_folder() / Path(value).expanduser()
        if path.is_dir():
            mistakes += [f"{key} {value} {fault}"] if (fault := saved_dataset_fault(path)) else []
        elif fault := file_kind_fault(value):
            mistakes.append(f"{key} {value} {fault}, or be a folder saved by datasets")
        elif not path.is_file():
            mistakes.append(f"{key} {value} does not exist")
    mistakes += saved_dataset_mistakes(values, folder=working_folder())
    for key, valid in (("model_name_or_path", locate.MODELS), ("dataset_name", locate.DATASETS)):
        value = values.get(key) or ""
        if value.startswith(locate.PREFIX) and value.removeprefix(locate.PREFIX) not in valid:
            names = [locate.PREFIX + name for name in valid]
            near = did_you_mean(value, names)
            mistakes.append(f"{key} {value} is unknown{near}: choose one of {', '.join(names)}")
    return mistakes


def _refusal(mistakes: list[str]) -> RequestError:
    """Returns the error that names every mistake once."""
    mistakes = list(dict.fromkeys(mistakes))
    head = f"{len(mistakes)} mistakes in the request: " if len(mistakes) > 1 else ""
    return RequestError(head + "; ".join(mistakes))


def _without_values(unknown: list[str]) -> list[str]:
    """Drops the words that follow an unknown flag: they are its values."""
    return [word for at, word in enumerate(unknown) if at == 0 or word.startswith("-")]


def _unknown_argument(argument: str) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {argument!r}: every argument is a --flag with its value"
    flag = argument.partition("=")[0]
    near = did_you_mean(flag.lstrip("-").replace("-", "_"), [*FIELDS, *OPTIONS, "recipe"])
    return f"{flag} is not a flag{near}"
