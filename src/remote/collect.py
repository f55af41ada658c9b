"""Collects the results of a remote training: bazel run //src/remote:collect -- --help

A finished model is verified and committed to the cache under its key. The checkpoint of a stopped run is packed into
one file, where the next `bazel test` finds it and resumes from it.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from src.cache_manager.keys.code_version import training_code
from src.cache_manager.keys.key import run_key
from src.cache_manager.store.layout import default_root
from src.cache_manager.store.store import Store
from src.cli.errors import EXIT_DONE, EXIT_STOPPED, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.working_folder import workspace_root
from src.remote.results.allowed_files import check_weights
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
# Below src/training: git ignores it, and the archive in it is an input of training_test.
RESUME_FOLDER = Path("src", "training", "resume")
_MODEL, _CHECKPOINT = "model", "model.checkpoint"
RESUME_FILE = f"{_CHECKPOINT}.tar"
_STOPPED = ("interrupted", "stopped_at_deadline")


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
    check_weights(folder, base=resolved.base.folder)
    key = run_key(resolved)
    check_metrics(folder, versions=key.document["libraries"])
    check_code(outputs, code=training_code())
    check_loads(folder)
    score = _score(read_json(folder / METRICS_FILE))
    model = resolved.document["inputs"]["model"]
    committed = Store(default_root()).commit(
        {path.name: path for path in sorted(folder.iterdir())},
        document=key.document,
        model_name=resolved.recipe.model_name_or_path,
        revision=model.get("commit") or model["sha256"],
    )
    # The run is finished: a checkpoint left there would be an input of every later run.
    shutil.rmtree(root / RESUME_FOLDER, ignore_errors=True)
    sys.stdout.write(f"{score}, key {key.digest}\n{committed}\n")


def _score(metrics: dict[str, Any]) -> str:
    """Returns the main score after training, by the problem: accuracy, F1 of many labels, or a regression's MAE."""
    try:
        after = metrics["after"]
        name = next(name for name in ("accuracy", "f1_micro", "mae") if name in after)
        return f"{name} {after[name]:.4f}"
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise RequestError(f"{METRICS_FILE} in the outputs holds no scores: nothing is collected") from error


def _collect_checkpoint(checkpoint: Path, *, root: Path, test: str) -> None:
    resolved = resolve_received(checkpoint, root=root)
    check_weights(checkpoint, base=resolved.base.folder)
    check_code(checkpoint.parent, code=training_code())
    progress = _progress(read_json(checkpoint / METRICS_FILE))
    target = root / RESUME_FOLDER
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _pack(checkpoint, partial / RESUME_FILE)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sys.stdout.write(
        f"the run was stopped {progress}: its checkpoint is in {RESUME_FOLDER}\n"
        f"rerun the same bazel test {test} to resume\n"
    )


def _progress(metrics: dict[str, Any]) -> str:
    try:
        status, train = metrics["status"], metrics["train"]
        if status not in _STOPPED:
            raise ValueError(status)
        return f"({status}) after {train['steps']:d} steps, {train['epochs']:.2f} epochs"
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{METRICS_FILE} in the outputs does not say where the run stopped") from error


def _pack(checkpoint: Path, archive: Path) -> None:
    """Packs a checkpoint into one file: a folder in the workspace would be a package of `//...` if it held a BUILD.

    Equal checkpoints give equal bytes, so that Bazel's caches know them.
    """
    with tarfile.open(archive, "w") as packed:
        for path in sorted(checkpoint.rglob("*")):
            if path.is_file():
                # Its owner, mode and time are tarfile's constants.
                member = tarfile.TarInfo(f"{_CHECKPOINT}/{path.relative_to(checkpoint).as_posix()}")
                member.size = path.stat().st_size
                with path.open("rb") as content:
                    packed.addfile(member, content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
