"""Fine-tunes a text classifier on CPUs: bazel run //src/training:train_model -- --help

Also importable, with the tutorial's names: `train_classifier` and `print_model_performance`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.standard_output import write_result
from src.cli.working_folder import working_folder
from src.training.environment.bfloat16 import check_bfloat16
from src.training.environment.determinism import prepare_environment
from src.training.environment.stop_signal import StopSignal
from src.training.recipes.files import read_recipe
from src.training.recipes.recipe import Recipe, parse_fields
from src.training.run.hub_upload import KEPT_HERE, check_upload, upload
from src.training.run.options import RunOptions
from src.training.run.request import Request, cross_field_mistakes, parse_request

if TYPE_CHECKING:
    from src.training.evaluation.problem import Metrics
    from src.training.run.resolved_run import ResolvedRun

_DEFAULT, _OFFLINE_DEFAULT = "sst2_bert_tiny", "embedded"


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    retry = "rerun the command to resume from the last checkpoint"
    return exit_code_of("train_model", lambda: train(arguments), debug="--debug" in arguments, retry=retry)


def train(arguments: list[str]) -> int:
    """Trains what a command line asks for; returns the exit code.

    Raises:
        RequestError: the request is invalid.
        StopRequested: a signal or the deadline came.
    """
    request = parse_request(arguments, default_recipe=choose_default_recipe)
    stop = StopSignal(deadline_seconds=request.options.deadline_seconds)
    stop.install()
    options = request.options
    if options.push_to_hub:
        check_upload(options.hub_model_id)
    folder = run(request, stop=stop)
    write_result(f"Model saved to {folder}\n")
    if options.push_to_hub:
        address = upload(folder, options.hub_model_id, private=options.hub_private_repo)
        write_result(f"Uploaded to {address}, without {KEPT_HERE}, which shows texts of the rows\n")
    return EXIT_DONE


def choose_default_recipe() -> str:
    """Returns the tutorial's recipe if the hub or its cache has it, else the embedded one."""
    from src.training.environment.hub import hub_has

    if hub_has(read_recipe(_DEFAULT, folder=working_folder())):
        return _DEFAULT
    sys.stdout.write(
        f"*** The hub is not reachable and its cache lacks {_DEFAULT}: using the recipe {_OFFLINE_DEFAULT}, "
        "whose model and sentences come with the packages. ***\n"
    )
    return _OFFLINE_DEFAULT


def run(request: Request, *, stop: StopSignal, resolved: ResolvedRun | None = None) -> Path:
    """Trains a model; returns its folder.

    Args:
        request: the checked command line.
        stop: ends the run early.
        resolved: the request's inputs, if the caller has found and hashed them already.

    Raises:
        RequestError: the request turns out to be invalid.
        StopRequested: a signal or the deadline came.
    """
    # What follows loads numpy and torch, which read the environment once.
    prepare_environment(request.recipe.reproducible)
    if request.recipe.bf16:
        check_bfloat16()
    from src.training.run.artifact import check_output_folder
    from src.training.run.console import configure_logging
    from src.training.run.resolved_run import resolve_run

    # What is said of the rows is said before the run begins.
    configure_logging(stop=stop)
    if request.options.output_dir is not None:
        check_output_folder(request.options.output_dir, overwrite=request.options.overwrite_output_dir)
    if resolved is None:
        resolved = resolve_run(request.recipe, folder=working_folder())
    from src.training.run.training_run import TrainingRun

    return TrainingRun(request, resolved=resolved, stop=stop).run()


def train_classifier(
    model_name: str = "prajjwal1/bert-tiny",
    dataset_name: str = "glue",
    dataset_config: str | None = None,
    output_dir: str | Path | None = None,
    batch_size: int = 16,
    learning_rate: float = 5e-5,
    epochs: float = 2,
    **fields: Any,
) -> str:
    """Fine-tunes a classifier, as the tutorial's function of this name does; returns the model's folder.

    Args:
        model_name: base model: a hub name, a folder, or embedded:NAME.
        dataset_name: hub dataset, or embedded:NAME. `glue` with `sst2` is the tutorial's job, pinned to commits.
        dataset_config: configuration of the hub dataset; by default `sst2` for `glue`.
        output_dir: folder for the model; by default one in finetuned/ named after the run.
        batch_size: rows per training step.
        learning_rate: peak learning rate.
        epochs: passes over the train rows.
        **fields: any other field of a recipe, such as `train_file`, `seed` or `max_train_samples`.

    Raises:
        RequestError: the arguments are invalid, or something is not available.
    """
    pinned = read_recipe(_DEFAULT, folder=working_folder())
    raw: dict[str, Any] = {"model_name_or_path": model_name}
    if model_name == pinned["model_name_or_path"]:
        raw |= {key: pinned[key] for key in ("model_revision", "model_weights_sha256")}
    if dataset_name == "glue" and dataset_config is None:
        dataset_config = pinned["dataset_config_name"]
    if "train_file" not in fields:
        raw |= {"dataset_name": dataset_name, "dataset_config_name": dataset_config}
        if (dataset_name, dataset_config) == ("glue", pinned["dataset_config_name"]):
            data = ("dataset_", "text_", "label_", "train_fraction", "split_", "validation_")
            raw |= {key: value for key, value in pinned.items() if key.startswith(data)}
    raw |= {"per_device_train_batch_size": batch_size, "learning_rate": learning_rate, "num_train_epochs": epochs}
    values, mistakes = parse_fields({**raw, **fields})
    recipe = Recipe(**values)
    if mistakes := mistakes + cross_field_mistakes(recipe):
        raise RequestError("; ".join(mistakes))
    options = RunOptions(output_dir=None if output_dir is None else working_folder() / Path(output_dir).expanduser())
    request = Request(recipe_name="custom", recipe=recipe, options=options)
    return str(run(request, stop=StopSignal(deadline_seconds=None)))


def print_model_performance(
    model: Any,
    trainer: Any,
    tokenizer: Any,
    test_dataset: Any,
    *,
    text_column_name: str = "sentence",
    text_pair_column_name: str | None = None,
    label_column_name: str = "label",
    max_seq_length: int = 128,
) -> Metrics:
    """Prints and returns a model's scores on rows with labels.

    Args:
        model: a classifier of transformers.
        trainer: ignored; for the tutorial's callers. May be None.
        tokenizer: the model's tokenizer.
        test_dataset: rows, such as a datasets.Dataset, with a text column and a column of class indices, or of values
            if the model is a regression, or of lists with a 1 or a 0 for each of many labels.
        text_column_name: the column with the text.
        text_pair_column_name: the column with the second text, if the model reads pairs.
        label_column_name: the column with the label.
        max_seq_length: maximum tokens of a text; longer ones are truncated.
    """
    del trainer
    from src.training.run.performance import print_performance

    return print_performance(
        model,
        tokenizer,
        texts=list(test_dataset[text_column_name]),
        pairs=None if text_pair_column_name is None else list(test_dataset[text_pair_column_name]),
        labels=list(test_dataset[label_column_name]),
        max_seq_length=max_seq_length,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
