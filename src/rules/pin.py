"""Pins a model or data set of the hub: prints the call of hub_model() or hub_dataset() for src/models/hub.bzl.

bazel run //src/rules:pin -- ORG/NAME
bazel run //src/rules:pin -- ORG/NAME --dataset --files 'sst2/*'
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of, in_one_line
from src.cli.parser import RefusingParser
from src.disk.durable import file_sha256
from src.training.data.files import FILE_KINDS
from src.training.model import model_files

if TYPE_CHECKING:
    from huggingface_hub.hf_api import HfApi, RepoSibling


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("pin", lambda: _pin(arguments), debug=False, answers=True)


def _pin(arguments: list[str]) -> int:
    parser = RefusingParser(
        prog="pin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("repo", metavar="ORG/NAME")
    parser.add_argument("--dataset", action="store_true", help="it is a data set")
    parser.add_argument("--revision", default="main", help="branch, tag or commit (default: %(default)s)")
    parser.add_argument("--files", nargs="+", default=[], metavar="PATTERN", help="these files alone, such as 'sst2/*'")
    parser.add_argument("--name", help="of Bazel's repository (default: NAME)")
    given = parser.parse_args(arguments)
    commit, files = _at_hub(given.repo, is_dataset=given.dataset, revision=given.revision, patterns=given.files)
    name = given.name or re.sub(r"\W", "_", given.repo.rpartition("/")[2]).lower()
    print(call(name=name, repo=given.repo, commit=commit, files=files, is_dataset=given.dataset))
    return EXIT_DONE


def _at_hub(repo: str, *, is_dataset: bool, revision: str, patterns: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Returns the commit that a revision stands for, and the sha256 of files by their names.

    Raises:
        RequestError: the hub does not serve it, or it has no such file.
    """
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    hub = HfApi(endpoint=constants.ENDPOINT)
    kind = "dataset" if is_dataset else "model"
    try:
        ask = hub.dataset_info if is_dataset else hub.model_info
        info = ask(repo, revision=revision, files_metadata=True)
        commit, siblings = str(info.sha), {file.rfilename: file for file in info.siblings or []}
        names = chosen(siblings, is_dataset=is_dataset, patterns=patterns)
        if not names:
            wanted = " ".join(patterns) or f"file of a {kind}"
            raise RequestError(f"{repo} has no {wanted}: choose with --files from {', '.join(sorted(siblings)[:20])}")
        return commit, {name: _sha256(hub, siblings[name], repo=repo, kind=kind, commit=commit) for name in names}
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise RequestError(
            f"the hub does not serve the {kind} {repo} at {revision}: {in_one_line(error, limit=200)}"
        ) from error


def chosen(names: Iterable[str], *, is_dataset: bool, patterns: Sequence[str] = ()) -> list[str]:
    """Returns the files to pin: those that fit a pattern; without patterns, what a training reads.

    Of a model that is its configuration, its tokenizer and its weights, pickled ones only if there are no others. A
    model card is left out, so that one that changes trains nothing again.
    """
    names = sorted(names)
    if patterns:
        return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if is_dataset:
        return [name for name in names if name.endswith(FILE_KINDS)]
    weights = _of(names, f"{model_files.WEIGHTS}|{model_files.ADAPTER_WEIGHTS}") or _of(
        names, f"{model_files.PICKLED_WEIGHTS}|{model_files.PICKLED_INDEX}"
    )
    return sorted(_of(names, model_files.CONFIGURATION) + weights)


def _of(names: Iterable[str], pattern: str) -> list[str]:
    return [name for name in names if re.fullmatch(pattern, name)]


def _sha256(hub: HfApi, file: RepoSibling, *, repo: str, kind: str, commit: str) -> str:
    """Returns the hash that the hub keeps of large files; small ones are downloaded for it."""
    if file.lfs is not None:
        return file.lfs.sha256
    with tempfile.TemporaryDirectory() as folder:
        path = hub.hf_hub_download(repo, file.rfilename, repo_type=kind, revision=commit, local_dir=folder)
        return file_sha256(Path(path))


def call(*, name: str, repo: str, commit: str, files: Mapping[str, str], is_dataset: bool) -> str:
    """Returns the call of the repository rule, as buildifier formats it in a macro."""
    pins = "".join(f'            "{file}": "{sha256}",\n' for file, sha256 in sorted(files.items()))
    return (
        f"    hub_{'dataset' if is_dataset else 'model'}(\n"
        f'        name = "{name}",\n'
        f'        commit = "{commit}",\n'
        f"        files = {{\n{pins}        }},\n"
        f'        repo = "{repo}",\n'
        "    )"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
