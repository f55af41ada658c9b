"""Collects the results of a remote training: bazel run //src/remote:collect -- --help

A finished model is verified and committed to the cache under its key. The checkpoint of a stopped run is put where the
next `bazel test` finds it and resumes from it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from src.cache_manager.keys.code_version import training_code
from src.cache_manager.keys.key import run_key
from src.cache_manager.store.layout import default_root
from src.cache_manager.store.store import Store
from src.cli.errors import EXIT_DONE, EXIT_STOPPED, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.working_folder import workspace_root
from src.remote.results.received_model import (
    check_code,
    check_loads,
    check_metrics,
    read_json,
    resolve_received,
)
from src.remote.results.test_outputs import outputs_folder, unpacked
from src.training.run.artifact import METRICS_FILE

DEFAULT_TEST = "//src/training:training_test"
# Below src/training: git ignores it, and its contents are an input of training_test.
RESUME_FOLDER = Path("src", "training", "resume")
_MODEL, _CHECKPOINT = "model", "model.checkpoint"


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("collect", lambda: _run(arguments), debug="--debug" in arguments)


def _run(arguments: list[str]) -> int:
    parser = RefusingParser(
        prog="collect",
        usage="bazel run //src/remote:collect -- [//PACKAGE:TEST]",
        allow_abbrev=False,
        description="Verifies the outputs of a training test and commits the model to the cache. "
        "Exit codes: 0 done; 3 the run was stopped, and the same test resumes it; 2 nothing was collected.",
    )
    parser.add_argument("test", nargs="?", default=DEFAULT_TEST, help="the test that trained (default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    root = workspace_root()
    outputs = outputs_folder(root, options.test)
    with tempfile.TemporaryDirectory() as folder, unpacked(outputs, scratch=Path(folder) / "outputs") as received:
        if (received / _MODEL).is_dir():
            _collect_model(received / _MODEL, outputs=received, root=root)
            return EXIT_DONE
        if (received / _CHECKPOINT).is_dir():
            _collect_checkpoint(received / _CHECKPOINT, root=root, test=options.test)
            return EXIT_STOPPED
    raise RequestError(f"{options.test} left neither a model nor a checkpoint: look at its log")


def _collect_model(folder: Path, *, outputs: Path, root: Path) -> None:
    resolved = resolve_received(folder, root=root)
    key = run_key(resolved)
    check_metrics(folder, versions=key.document["libraries"])
    check_code(outputs, code=training_code())
    check_loads(folder)
    model = resolved.document["inputs"]["model"]
    committed = Store(default_root()).commit(
        {path.name: path for path in sorted(folder.iterdir())},
        document=key.document,
        model_name=resolved.recipe.model_name_or_path,
        revision=model.get("commit") or model["sha256"],
    )
    # The run is finished: a checkpoint left there would be an input of every later run.
    shutil.rmtree(root / RESUME_FOLDER, ignore_errors=True)
    accuracy = read_json(folder / METRICS_FILE)["after"]["accuracy"]
    sys.stdout.write(f"accuracy {accuracy:.4f}, key {key.digest}\n{committed}\n")


def _collect_checkpoint(checkpoint: Path, *, root: Path, test: str) -> None:
    resolve_received(checkpoint, root=root)
    check_code(checkpoint.parent, code=training_code())
    metrics = read_json(checkpoint / METRICS_FILE)
    target = root / RESUME_FOLDER
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copytree(checkpoint, partial / _CHECKPOINT)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    train = metrics.get("train", {})
    sys.stdout.write(
        f"the run was stopped ({metrics.get('status')}) after {train.get('steps')} steps, {train.get('epochs'):.2f} "
        f"epochs: its checkpoint is in {RESUME_FOLDER}\nrerun the same bazel test {test} to resume\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
