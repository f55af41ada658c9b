"""Collects the results of a remote training: bazel run //src/remote:collect -- --help

A finished model is verified and committed to the cache under its key. The checkpoint of a stopped run is packed into
one file, where the next `bazel test` finds it and resumes from it.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from src.cache_manager.keys.key import run_key
from src.cache_manager.store.layout import default_root
from src.cache_manager.store.store import CacheError, Store
from src.cache_manager.store.verify import files_in
from src.cli.errors import EXIT_DONE, EXIT_STOPPED, RequestError, exit_code_of
from src.cli.parser import RefusingParser
from src.cli.working_folder import workspace_root
from src.disk.durable import delete
from src.remote.results.allowed_files import check_weights
from src.remote.results.received_model import (
    check_checkpoints,
    check_code,
    check_metrics,
    check_model,
    check_stopped,
    resolve_received,
)
from src.remote.results.test_outputs import outputs_folder, unpacked

DEFAULT_TEST = "//src/training:training_test"
# Below src/training: git ignores it, and the archive in it is an input of training_test.
RESUME_FOLDER = Path("src", "training", "resume")
_MODEL, _CHECKPOINT = "model", "model.checkpoint"
RESUME_FILE = f"{_CHECKPOINT}.tar"


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
    score = check_metrics(folder, versions=key.document["libraries"])
    check_code(outputs, code=key.document["code"])
    check_model(folder, resolved)
    # The run is finished: a checkpoint left there would be an input of every later run.
    remove_folder(root / RESUME_FOLDER)
    model = resolved.document["inputs"]["model"]
    try:
        committed = Store(default_root()).commit(
            {name: folder / name for name, _ in files_in(folder)},
            document=key.document,
            model_name=resolved.recipe.model_name_or_path,
            revision=model.get("commit") or model["sha256"],
        )
    except CacheError as error:
        raise OSError(str(error)) from error
    sys.stdout.write(f"{score}, key {key.digest}\n{committed}\n")


def _collect_checkpoint(checkpoint: Path, *, root: Path, test: str) -> None:
    resolved = resolve_received(checkpoint, root=root)
    check_weights(checkpoint, base=resolved.base.folder)
    check_code(checkpoint.parent, code=run_key(resolved).document["code"])
    progress = check_stopped(checkpoint)
    check_checkpoints(checkpoint, fingerprint=resolved.fingerprint)
    target = root / RESUME_FOLDER
    partial = target.with_name(f"{target.name}.partial")
    remove_folder(partial)
    try:
        partial.mkdir(parents=True)
        _pack(checkpoint, partial / RESUME_FILE)
        remove_folder(target)
        partial.rename(target)
    finally:
        remove_folder(partial)
    sys.stdout.write(
        f"the run was stopped {progress}: its checkpoint is in {RESUME_FOLDER}\n"
        f"rerun the same bazel test {test} to resume\n"
    )


def remove_folder(folder: Path) -> None:
    """Removes a folder, if it exists, also where it holds folders that may not be written to.

    Raises:
        RequestError: it cannot be removed.
    """
    try:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        delete(folder)
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be removed ({error.strerror}): remove it, and rerun the command"
        ) from error


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
