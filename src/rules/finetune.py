"""The program of the action FineTune: trains in a scratch folder and hands out two folders, the model and its run.

The model's folder is the same bytes wherever it is trained, so it holds nothing of the run that trained it: no report,
no events, and of metrics.json the scores and counts alone. Those go to the second folder, which nothing is built on.

A point of a sweep has two files more. A point that is refused or diverges is one of its results, and the same for
everybody: the action succeeds and its outcome says why. Whatever may go better next time fails the action, so that no
cache keeps it: a kill, the deadline, too little memory, and every error of another kind.

finetune --model DIR --run DIR [--outcome FILE --cost FILE] [--input NAME PATH ...] -- FLAGS OF train_model

An input with several paths is rows in several parquet files, which become one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, MachineError, RequestError, exit_code_of
from src.cli.standard_output import standard_output_to
from src.disk.durable import write_json
from src.disk.json_files import read_json
from src.sweeps.outcome import outcome_of, refused
from src.training import train_model
from src.training.data.parquet_rows import join_parquet
from src.training.environment.determinism import prepare_environment

# Of metrics.json: seconds, rates, memory and the machine vary from run to run.
_CONSTANT = ("schema", "before", "after", "comparison", "status", "validation")
_CONSTANT_EFFORT = ("examples", "epochs", "steps", "threads", "device")
_METRICS, _CARD = "metrics.json", "README.md"
_RUN_RECORDS = ("events.jsonl", "report.html")
_LOG = "training.log"
_SHOWN_LINES = 20
_STOPPED = (
    "finetune: an action keeps no checkpoint, so the next build starts over: "
    "raise timeout_seconds of the target, or train less\n"
)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    end = arguments.index("--")
    parser = argparse.ArgumentParser(prog="finetune", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="for the artifact folder")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="for the records of this run")
    parser.add_argument("--input", action="append", default=[], nargs="+", metavar=("NAME", "PATH"))
    parser.add_argument("--outcome", type=Path, metavar="FILE", help="for what came of a point of a sweep")
    parser.add_argument("--cost", type=Path, metavar="FILE", help="for what it took")
    given = parser.parse_args(arguments[:end])
    model, run = given.model.absolute(), given.run.absolute()
    # Bazel makes them on this machine; an executor makes only what they stand in.
    for output in (model, run):
        output.mkdir(parents=True, exist_ok=True)
    # In an output, which Bazel removes if this is killed.
    with tempfile.TemporaryDirectory(dir=run) as scratch:
        trained = Path(scratch) / "model"
        flags = [*arguments[end + 1 :], "--output_dir", str(trained)]
        inputs = {name: [Path(path).absolute() for path in paths] for name, *paths in given.input}
        code, refusal = _train(flags, inputs, folder=Path(scratch), log=run / _LOG)
        if code == EXIT_DONE:
            divide(trained, model=model, run=run)
    if given.outcome and (code == EXIT_DONE or refusal):
        outcome = refused(refusal) if refusal else outcome_of(read_json(model / _METRICS))
        write_json(given.outcome, outcome.as_json())
        write_json(given.cost, {"cpu_seconds": _cpu_seconds()})
        return EXIT_DONE
    return code


def _cpu_seconds() -> float:
    """Returns the CPU time of this process and of those that it has waited for, the loading of libraries included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def place_inputs(folder: Path, inputs: Mapping[str, Sequence[Path]]) -> None:
    """Puts inputs under their labels' paths, which recipe.json then names: those of outputs name the build's mode.

    Raises:
        RequestError: files that are to be one differ in their columns, or cannot be read.
    """
    for name, paths in inputs.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if len(paths) == 1:
            place.symlink_to(paths[0])
        else:
            join_parquet(paths, place)


def divide(trained: Path, *, model: Path, run: Path) -> None:
    """Moves a trained model: what is the same for each run of its recipe, and what is of this run.

    Args:
        trained: artifact folder.
        model: gets the former.
        run: gets the latter, with the whole of metrics.json.
    """
    metrics = read_json(trained / _METRICS)
    for path in sorted(trained.iterdir()):
        shutil.move(path, (run if path.name in (_METRICS, *_RUN_RECORDS) else model) / path.name)
    write_json(model / _METRICS, constant_metrics(metrics))
    card = (model / _CARD).read_text(encoding="utf-8").splitlines(keepends=True)
    (model / _CARD).write_text("".join(line for line in card if "`report.html`" not in line), encoding="utf-8")


def constant_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what each run of a recipe writes into metrics.json."""
    effort = {name: metrics["train"][name] for name in _CONSTANT_EFFORT}
    return {**{name: metrics[name] for name in _CONSTANT}, "train": effort}


def _train(flags: Sequence[str], inputs: Mapping[str, Sequence[Path]], *, folder: Path, log: Path) -> tuple[int, str]:
    """Trains in a folder that is a home of its own; shows the log's end if a training failed.

    Returns:
        The exit code, and the sentence of a refusal that does not depend on the machine.
    """
    refusals = []

    def train() -> int:
        try:
            if any(len(paths) > 1 for paths in inputs.values()):
                # Joining them loads numpy.
                prepare_environment("portable")
            place_inputs(Path.cwd(), inputs)
            return train_model.train(list(flags))
        except RequestError as error:
            if not isinstance(error, MachineError):
                refusals.append(" ".join(str(error).split()))
            raise

    os.environ.update(HOME=str(folder), XDG_CACHE_HOME=str(folder / "cache"), HF_HOME=str(folder / "huggingface"))
    # `bazel run` would have set it, to the folder that relative paths start from.
    os.environ.pop("BUILD_WORKING_DIRECTORY", None)
    place = folder / "inputs"
    place.mkdir()
    # Bazel would print it after each training.
    with contextlib.chdir(place), standard_output_to(log):
        code = exit_code_of("train_model", train, debug=False)
    if code == EXIT_STOPPED:
        sys.stderr.write(_STOPPED)
    if code == EXIT_FAILED:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
        sys.stderr.writelines(f"{line}\n" for line in last)
    return code, "".join(refusals)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
