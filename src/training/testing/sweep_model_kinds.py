"""Trains, resumes, predicts and exports a tiny model of every kind: bazel run //src/training/testing:sweep_model_kinds

Writes docs/model-kinds.md. Names of model types as arguments: only their rows are made anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.cli.errors import UNEXPECTED
from src.training.testing.forked_runs import load_libraries
from src.training.testing.mapped_kinds import architectures, build_mapped_kind
from src.training.testing.program_runs import run_in

TABLE = Path("docs", "model-kinds.md")
_ARGUMENTS = (
    *("--train_file", "train.csv", "--test_file", "test.csv", "--max_seq_length", "16", "--num_train_epochs", "1"),
    *("--per_device_train_batch_size", "8", "--learning_rate", "1e-2", "--threads", "1", "--output_dir", "out"),
)
_STOP_AT = 2
_TEXTS = ("the film was good", "the story was very very very bad", "a b c 1 2 3 ?")
_SECONDS = 900
_FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one kind: "yes", or the reason why not."""

    model_type: str
    trains: str
    exports: str = ""

    def row(self, architecture: str) -> str:
        """Returns its line of the table."""
        return f"| {self.model_type} | {architecture} | {self.trains} | {self.exports} |"


def sweep_kind(model_type: str, folder: Path) -> Outcome:
    """Runs the programs on a tiny model of a kind.

    Args:
        model_type: out of `architectures`.
        folder: an empty one, for the model and what comes of it.

    Raises:
        AssertionError: a program broke its promise: an error other than a refusal before the training, a resumed run
            with other bits, a prediction that failed.
    """
    from src.training import export_onnx, predict, train_model
    from src.training.testing.stopped_training import stopped_after
    from src.training.testing.tiny_model import write_sentences

    try:
        build_mapped_kind(folder / "model", model_type)
    except ImportError as error:
        return Outcome(model_type=model_type, trains=f"no: {' '.join(str(error).split()).partition(' but ')[0]}")
    write_sentences(folder / "train.csv", rows=40, seed=1)
    write_sentences(folder / "test.csv", rows=8, seed=2)
    arguments = ["--model_name_or_path", "model", *_ARGUMENTS]
    code, text = _run(folder, train_model.main, *arguments)
    if code == 2:
        return Outcome(model_type=model_type, trains=f"no: {text.splitlines()[-1].removeprefix('train_model: ')}")
    assert code == 0, f"train_model: {text[-2000:]}"
    weights = (folder / "out" / "model.safetensors").read_bytes()
    again = [*arguments[:-1], "again"]
    with stopped_after(_STOP_AT):
        code, text = _run(folder, train_model.main, *again)
    assert code == 3, f"stopped: {code} {text[-2000:]}"
    code, text = _run(folder, train_model.main, *again)
    assert code == 0, f"resumed: {text[-2000:]}"
    assert (folder / "again" / "model.safetensors").read_bytes() == weights, "resumed to other bits"
    code, text = _run(folder, predict.main, "--model", "out", "--threads", "1", *_TEXTS)
    assert code == 0 and text.count('"label"') == len(_TEXTS), f"predict: {text[-2000:]}"
    export = ("--model", "out", "--output", "it.onnx", "--check_file", "test.csv")
    code, text = _run(folder, export_onnx.main, *export)
    if code == 0:
        return Outcome(model_type=model_type, trains="yes", exports="yes")
    refusal = text.splitlines()[-1].removeprefix("export_onnx: ")
    assert code in (1, 2) and UNEXPECTED not in refusal, f"export_onnx: {text[-2000:]}"
    assert not (folder / "it.onnx").exists()
    reason = refusal.partition("ONNX cannot hold: ")[2] or refusal
    return Outcome(model_type=model_type, trains="yes", exports=f"no: {reason}")


def _run(folder: Path, main: Callable[[list[str]], int], *arguments: str) -> tuple[int, str]:
    """Runs a program in a folder; returns its exit code and what it printed."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run_in(folder, main, *arguments)
    out.seek(0)
    return code, out.read()


def _fork(model_type: str, *, row: Path) -> int:
    """Starts a process, which libraries cannot take the sweep down with, that writes the row of a kind to a file."""
    if child := os.fork():
        return child
    signal.alarm(_SECONDS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = sweep_kind(model_type, Path(folder)).row(architectures()[model_type])
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if isinstance(error, AssertionError) else f" ({last.filename}:{last.lineno})"
        text = f"{_FAILED} {model_type}: {type(error).__name__}: {error}{place}"
    row.write_text(text, encoding="utf-8")
    os._exit(0)


def sweep(model_types: Sequence[str], *, processes: int) -> list[str]:
    """Returns the rows of kinds, in their order, and prints each when it is known."""
    with tempfile.TemporaryDirectory() as folder:
        running: dict[int, str] = {}
        waiting = list(model_types)
        while waiting or running:
            if waiting and len(running) < processes:
                model_type = waiting.pop(0)
                running[_fork(model_type, row=Path(folder, model_type))] = model_type
                continue
            child, status = os.wait()
            model_type = running.pop(child)
            row = Path(folder, model_type)
            if not row.exists():
                row.write_text(f"{_FAILED} {model_type}: ended by {status}", encoding="utf-8")
            sys.stdout.write(row.read_text(encoding="utf-8") + "\n")
            sys.stdout.flush()
        return [Path(folder, model_type).read_text(encoding="utf-8") for model_type in model_types]


def main(arguments: Sequence[str]) -> int:
    """Sweeps the kinds; exit code 1 where one failed."""
    # Once, for all processes.
    load_libraries()
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    from src.training import export_onnx, predict  # noqa: F401
    from src.training.export import export  # noqa: F401

    torch.set_num_threads(1)
    # Libraries' warnings and progress, of which the rows say what matters.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    rows = sweep(arguments or [*architectures()], processes=os.cpu_count() or 1)
    if any(row.startswith(_FAILED) for row in rows):
        return 1
    if arguments:
        swept = dict(zip(arguments, rows, strict=True))
        rows = [swept.get(model_type, row) for model_type, row in rows_by_kind().items()]
    # Into the sources: Bazel's own tree links to them.
    (Path(__file__).resolve().parents[3] / TABLE).write_text(page(rows), encoding="utf-8")
    return 0


def rows_by_kind() -> dict[str, str]:
    """Returns the lines of the page's table by model type."""
    lines = (Path(__file__).parents[3] / TABLE).read_text(encoding="utf-8").splitlines()
    rows = lines[lines.index(_RULE) + 1 :]
    return {row.split("|")[1].strip(): row for row in rows}


def page(rows: Sequence[str]) -> str:
    """Returns the page of the documentation."""
    from importlib.metadata import version

    return _PAGE.format(
        kinds=len(rows),
        trained=sum("| yes |" in row for row in rows),
        exported=sum(row.endswith("| yes | yes |") for row in rows),
        transformers=version("transformers"),
        torch=version("torch"),
        rule=_RULE,
        rows="\n".join(rows),
    )


_RULE = "|---|---|---|---|"
_PAGE = """\
# Kinds of models

Every kind of model that transformers {transformers} makes a text classifier of, {kinds} in all, was tried with torch \
{torch}: a tiny model with random weights, its published sizes shrunk, on 40 sentences. {trained} train, {exported} of \
them also become an ONNX file. Written by `bazel run //src/training/testing:sweep_model_kinds`.

- model type: as in a model's `config.json`.
- trains: `yes` if `train_model` trained it, stopped after a step and resumed to the same bits, and `predict` scored \
with it; otherwise the reason that `train_model` gives before it trains (exit code 2).
- ONNX: `yes` if `export_onnx` wrote a file that scores as the model does; otherwise the reason that it gives, and \
nothing is written.

| model type | class | trains | ONNX |
{rule}
{rows}
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
