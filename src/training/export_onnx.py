"""Exports a trained classifier to ONNX and compares the two: bazel run //src/training:export_onnx -- --help"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of
from src.cli.formats import show_size
from src.cli.standard_output import write_result
from src.cli.working_folder import working_folder
from src.disk.durable import flush_folder, write_json
from src.training.data.files import file_kind_fault
from src.training.environment.determinism import prepare_environment
from src.training.environment.stop_signal import StopSignal
from src.training.export.output_file import output_file
from src.training.inference.arguments import Parser, fraction
from src.training.inference.model_folder import TrainedModel, find_trained_model

if TYPE_CHECKING:
    from src.training.data.labels import Labels

_PROGRAM = "export_onnx"
_MIN_AGREEMENT = 0.99
# protobuf's limit for one file, less what is not weights.
_MAX_WEIGHT_BYTES = 2_000_000_000
_GROUPS = ("output", "rows to compare on")
_DESCRIPTION = f"""\
Exports a trained model to ONNX and compares the two on real rows.

  --model finetuned/embedded-1a2b3c4d --output film.onnx --check_file my_rows.csv

Writes film.onnx and, beside it, film.onnx.json with the result of the comparison; existing files are replaced.
Writes nothing if a prediction or a score differs, or, with --int8, more than {1 - _MIN_AGREEMENT:.0%} of
the predictions.

Exit codes: 0 done; 2 invalid request; 1 the models differ, or any other error."""


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _export(arguments), debug="--debug" in arguments)


def argument_parser() -> Parser:
    """Returns the parser behind --help."""
    parser = Parser(
        _PROGRAM,
        usage="--model DIR --output FILE.onnx [--FLAG VALUE ...]",
        description=_DESCRIPTION,
        groups=_GROUPS,
    )
    output, rows = (parser.groups[title] for title in _GROUPS)
    output.add_argument("--output", metavar="FILE.onnx", help="file to write")
    output.add_argument("--int8", action="store_true", help="store weights in 8 bits: a quarter of the size")
    output.add_argument(
        "--min_agreement",
        metavar="X",
        type=fraction,
        help=f"minimum fraction of equal predictions with --int8 (default: {_MIN_AGREEMENT})",
    )
    rows.add_argument("--check_file", metavar="FILE", help="file with the rows (default: 1,057 movie reviews)")
    rows.add_argument("--text_column_name", metavar="NAME", help="column with the text (default: the only one)")
    rows.add_argument(
        "--text_pair_column_name",
        metavar="NAME",
        help="column with the second text of a pair (default: as in training)",
    )
    rows.add_argument(
        "--label_column_name", metavar="NAME", help="column with the label (default: label, if it exists)"
    )
    return parser


def _export(arguments: list[str]) -> int:
    given, _ = argument_parser().parse(arguments)
    source = find_trained_model(working_folder() / Path(given.model).expanduser(), max_seq_length=given.max_seq_length)
    output = output_file(given.output, suffix=".onnx")
    _check_options(given, source)
    # Ctrl-C and SIGTERM become an exception, and nothing half-written stays.
    StopSignal(deadline_seconds=None).install()
    prepare_environment("off")
    from src.training.export.agreement import Disagreement, read_check_rows
    from src.training.export.export import export_checked

    check_file = None if given.check_file is None else working_folder() / Path(given.check_file).expanduser()
    pair = given.text_pair_column_name or source.text_pair_column
    rows = read_check_rows(
        check_file,
        text=given.text_column_name,
        pair=pair,
        label=given.label_column_name,
        labels=_labels_of(source),
    )
    min_agreement = _MIN_AGREEMENT if given.min_agreement is None else given.min_agreement
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.partial-", dir=output.parent) as folder:
            staged = Path(folder) / output.name
            _check_replaceable(output, scratch=Path(folder))
            report = export_checked(
                staged, source=source, rows=rows, min_int8_agreement=min_agreement if given.int8 else None
            )
            write_json(_report_file(staged), report)
            flush_folder(staged.parent)
            staged.replace(output)
            # Last: it holds the hash of the model.
            _report_file(staged).replace(_report_file(output))
    except Disagreement as error:
        sys.stderr.write(f"{_PROGRAM}: {error}: nothing was written\n")
        return EXIT_FAILED
    _show(report, output)
    return EXIT_DONE


def _labels_of(source: TrainedModel) -> Labels:
    """Returns what a model predicts."""
    from src.training.data.class_labels import ClassLabels
    from src.training.data.multi_labels import MultiLabels
    from src.training.data.value_labels import ValueLabels

    if source.is_regression:
        return ValueLabels(source.class_names[0])
    return MultiLabels(source.class_names) if source.is_multi_label else ClassLabels(source.class_names)


def _check_replaceable(output: Path, *, scratch: Path) -> None:
    """Refuses a file that nothing can be renamed onto, before the export: one that is mounted (docker's -v)."""
    for path in (output, _report_file(output)):
        try:
            os.link(path, scratch / "linked", follow_symlinks=False)
            (scratch / "linked").unlink()
        except OSError as error:
            # Only a mount is on another file system than its own folder.
            if error.errno == errno.EXDEV:
                raise RequestError(f"{path} is a mount point, which no file can replace: name another file") from error


def _check_options(given: argparse.Namespace, source: TrainedModel) -> None:
    if given.check_file is None:
        for flag in ("text_column_name", "text_pair_column_name", "label_column_name"):
            if getattr(given, flag) is not None:
                raise RequestError(f"--{flag} needs --check_file")
        if source.text_pair_column is not None:
            raise RequestError("--check_file is missing: the model reads pairs of texts, name a file with pairs")
    elif fault := file_kind_fault(given.check_file):
        raise RequestError(f"--check_file {given.check_file} {fault}")
    elif not (working_folder() / Path(given.check_file).expanduser()).is_file():
        raise RequestError(f"--check_file {given.check_file} does not exist")
    if given.min_agreement is not None and not given.int8:
        raise RequestError("--min_agreement needs --int8: without it all predictions must be equal")
    if given.int8 and not (source.is_classifier or source.is_multi_label):
        raise RequestError("--int8 is checked by the predicted classes, and this model predicts none: leave it out")
    if source.weight_bytes > _MAX_WEIGHT_BYTES:
        raise RequestError(f"{source.folder} has {source.weight_bytes:,} bytes of weights: an ONNX file holds 2 GB")


def _report_file(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _show(report: dict[str, Any], output: Path) -> None:
    check, size = report["check"], report["bytes"]
    lines = [
        f"{check['rows']:,} rows of {check['rows_of']}: {_difference(check)}",
        f"size      {show_size(size['original'])} -> {show_size(size['onnx'])} ({report['weights']})",
        f"a row     {check['seconds_a_row']['original'] * 1e3:.2f} ms -> {check['seconds_a_row']['onnx'] * 1e3:.2f} ms "
        "(alone, 1 thread, median)",
    ]
    if check["accuracy"] is not None:
        before, after = check["accuracy"]["original"], check["accuracy"]["onnx"]
        lines.append(f"accuracy  {before:.2%} -> {after:.2%} ({check['labelled_rows']:,} labelled rows)")
    if check["mean_absolute_error"] is not None:
        before, after = check["mean_absolute_error"]["original"], check["mean_absolute_error"]["onnx"]
        lines.append(f"error     {before:.4f} -> {after:.4f} (mean absolute, {check['labelled_rows']:,} labelled rows)")
    write_result("\n".join([*lines, f"Model exported to {output}\n"]))


def _difference(check: dict[str, Any]) -> str:
    difference = f"differ by at most {check['max_score_difference']:.1e}"
    if check["same_predictions"] is None:
        return f"values {difference}"
    return f"{check['same_predictions']:.2%} equal predictions, scores {difference}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
