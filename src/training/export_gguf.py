"""Exports a language model to GGUF, for llama.cpp and ollama: bazel run //src/training:export_gguf -- --help"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.formats import show_size
from src.cli.parser import RefusingParser
from src.cli.working_folder import working_folder
from src.disk.durable import flush_folder
from src.training.environment.determinism import prepare_environment
from src.training.environment.stop_signal import StopSignal
from src.training.export.output_file import output_file

if TYPE_CHECKING:
    from src.training.export.gguf_file import Tensors

_PROGRAM = "export_gguf"
_OUT_TYPES = ("f16", "q8_0", "f32")
_DESCRIPTION = """\
Exports a language model of the Llama architecture to a GGUF file, with its tokenizer and its chat template.

  --model finetuned/embedded-llm-1a2b3c4d --output mine.gguf
  llama-cli -m mine.gguf

An existing file is replaced. A folder that holds an adapter alone is merged with its base first.

Exit codes: 0 done; 2 invalid request; 1 any other error."""


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _export(arguments), debug="--debug" in arguments)


def argument_parser() -> RefusingParser:
    """Returns the parser behind --help."""
    import argparse

    parser = RefusingParser(
        prog=_PROGRAM,
        usage=f"bazel run //src/training:{_PROGRAM} -- --model DIR --output FILE.gguf [--outtype TYPE]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", metavar="DIR", help="folder of a trained language model, or embedded:NAME")
    parser.add_argument("--output", metavar="FILE.gguf", help="file to write")
    parser.add_argument(
        "--outtype",
        choices=_OUT_TYPES,
        default="f16",
        help="how matrices are stored; q8_0 is half as large as f16, and changes some answers (default: f16)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _export(arguments: list[str]) -> int:
    given = argument_parser().parse_args(arguments)
    if not given.model:
        raise RequestError("--model is missing: name the folder of a trained language model")
    folder, output = _model_folder(given.model), output_file(given.output, suffix=".gguf")
    # Ctrl-C and SIGTERM become an exception, and nothing half-written stays.
    StopSignal(deadline_seconds=None).install()
    prepare_environment("off")
    from src.training.export.gguf_file import gguf_model
    from src.training.model.pretrained import load_config, load_tokenizer

    config, tokenizer = load_config(folder), load_tokenizer(folder)
    with _tensors(folder) as tensors:
        try:
            model = gguf_model(
                config,
                tokenizer=tokenizer,
                tensors=tensors,
                stop_ids=_stop_ids(folder),
                name=folder.name,
                out_type=given.outtype,
            )
        except RequestError as error:
            raise RequestError(f"{given.model} cannot be exported: {error}") from error
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.partial-", dir=output.parent) as temporary:
            staged = Path(temporary) / output.name
            model.write(staged)
            flush_folder(staged.parent)
            staged.replace(output)
    kinds = model.matrices()
    stored = ", ".join(f"{count} as {kind}" for kind, count in sorted(kinds.items()))
    sys.stdout.write(f"matrices  {stored}{_why(kinds, given.outtype)}\nsize      {show_size(output.stat().st_size)}\n")
    sys.stdout.write(f"Model exported to {output}\n")
    return EXIT_DONE


def _why(kinds: Iterable[str], wanted: str) -> str:
    """Says why some matrices are not stored as wanted."""
    if set(kinds) <= {wanted}:
        return ""
    return " (rows that are no whole blocks of 32 weights stay f16, weights beyond its range f32)"


def _model_folder(name: str) -> Path:
    from src.training.embedded import locate
    from src.training.model.pretrained import refuse_adapter_alone

    if name.startswith(locate.PREFIX):
        try:
            return locate.embedded_model(name.removeprefix(locate.PREFIX))
        except (FileNotFoundError, ValueError) as error:
            raise RequestError(str(error)) from error
    folder = working_folder() / Path(name).expanduser()
    if not folder.is_dir():
        problem = "is a file" if folder.is_file() else "does not exist"
        raise RequestError(f"--model {folder} {problem}: name the folder of a trained language model")
    refuse_adapter_alone(folder, name=f"--model {folder}")
    if not (folder / "config.json").is_file():
        raise RequestError(f"--model {folder} has no config.json: name the folder of a trained language model")
    return folder


def _stop_ids(folder: Path) -> list[int]:
    """Returns the tokens that end an answer, the folder's own first."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []


@contextmanager
def _tensors(folder: Path) -> Iterator[Tensors]:
    """Gives the weights of a model; those of an adapter alone after they were merged with its base."""
    from src.training.export.gguf_file import held_tensors, stored_tensors
    from src.training.model.language_model import load_with_adapter
    from src.training.model.lora import has_adapter_alone

    if not has_adapter_alone(folder):
        with stored_tensors(folder) as tensors:
            yield tensors
        return
    from src.training.model.adapter_base import find_adapter_base

    base = find_adapter_base(folder, user_folder=working_folder())
    yield held_tensors(load_with_adapter(base, folder).merge_and_unload().state_dict())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
