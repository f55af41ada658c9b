"""The program of the action FineTune: trains in a scratch folder and hands out two folders, the model and its run.

The model's folder is the same bytes wherever it is trained, so it holds nothing of the run that trained it: no report,
no events, and of metrics.json the scores and counts alone. Those go to the second folder, which nothing is built on.

finetune --model DIR --run DIR [--input NAME=PATH ...] -- FLAGS OF train_model
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from src.disk.durable import write_json
from src.disk.json_files import read_json
from src.training import train_model

# Of metrics.json: seconds, rates, memory and the machine vary from run to run.
_CONSTANT = ("schema", "before", "after", "comparison", "status")
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
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH", help="file that the flags name")
    given = parser.parse_args(arguments[:end])
    model, run = given.model.absolute(), given.run.absolute()
    # In an output, which Bazel removes if this is killed.
    with tempfile.TemporaryDirectory(dir=run) as scratch:
        link_inputs(Path(scratch) / "inputs", dict(pair.partition("=")[::2] for pair in given.input))
        trained = Path(scratch) / "model"
        code = _train([*arguments[end + 1 :], "--output_dir", str(trained)], folder=Path(scratch), log=run / _LOG)
        if code == EXIT_DONE:
            divide(trained, model=model, run=run)
    return code


def link_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """Links inputs under their labels' paths, which recipe.json then names: those of outputs name the build's mode."""
    folder.mkdir()
    for name, path in inputs.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).absolute())


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


def _train(flags: Sequence[str], *, folder: Path, log: Path) -> int:
    """Trains in a folder that is a home of its own. Returns the exit code; shows the log's end if a training failed."""
    os.environ.update(HOME=str(folder), XDG_CACHE_HOME=str(folder / "cache"), HF_HOME=str(folder / "huggingface"))
    # `bazel run` would have set it, to the folder that relative paths start from.
    os.environ.pop("BUILD_WORKING_DIRECTORY", None)
    with contextlib.chdir(folder / "inputs"), _standard_output_to(log):
        code = train_model.main(list(flags))
    if code == EXIT_STOPPED:
        sys.stderr.write(_STOPPED)
    if code == EXIT_FAILED:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
        sys.stderr.writelines(f"{line}\n" for line in last)
    return code


@contextlib.contextmanager
def _standard_output_to(path: Path) -> Iterator[None]:
    """Sends what this process and its children print to a file: Bazel would print it after each training."""
    sys.stdout.flush()
    usual = os.dup(1)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(usual, 1)
        os.close(usual)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
