"""Predicts the class or the number of texts with a trained model: bazel run //src/training:predict -- --help"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.working_folder import working_folder
from src.training.data.read_options import ReadOptions
from src.training.environment.cores import available_cores
from src.training.environment.determinism import prepare_environment
from src.training.inference.arguments import Parser, fraction, positive_integer
from src.training.inference.lines import as_text, text_windows
from src.training.inference.model_folder import TrainedModel, find_trained_model
from src.training.inference.pairs import Text, expects_pairs, pair_arguments, parse_pair
from src.training.recipes.recipe import parse_fields

if TYPE_CHECKING:
    import numpy as np

    from src.training.inference.classifier import Classifier
    from src.training.inference.scored_file import RowsToScore

_PROGRAM = "predict"
_BATCH_SIZE = 64
_THRESHOLD = 0.5
# Texts sorted by length together: enough for little padding, few enough to answer soon.
_BATCHES_A_WINDOW = 16
# What a text would be mistaken for; files of lines and of JSON lines are read from standard input.
_TABLES = (".csv", ".tsv", ".parquet")
_MAX_NAME_BYTES = 255
_FILE_FLAGS = {
    "input_file": "rows to predict: a csv, tsv, txt, JSON or parquet file",
    "output_file": "where the rows go, with what was predicted: .csv, .tsv, .jsonl or .parquet",
    "text_column_name": "column with the text (default: as in training, or the only other column)",
    "text_pair_column_name": "column with the second text (default: as in training)",
    "label_column_name": "column with labels to score (default: as in training, if it is there)",
    "delimiter": "what parts the values: a character, or tab (default: found out)",
    "encoding": "encoding of the text, such as cp1252 (default: UTF-8, or UTF-16 where it shows)",
}
_DESCRIPTION = """\
Predicts the class, or the number, of each text with a trained model, and prints JSON lines:

  --model finetuned/embedded-1a2b3c4d "a fine film" "a dull film"
  --model finetuned/embedded-1a2b3c4d < texts.txt            one text a line
  --model finetuned/embedded-1a2b3c4d -- "-3 of 10"          texts that begin with a dash
  --model finetuned/embedded-1a2b3c4d --input_file rows.csv --output_file scored.csv

{"text": ..., "label": the class with the highest score, "score": its score, "scores": {class: score}}
{"text": ..., "value": the number}                           for a regression
{"text": ..., "labels": those with a score of --threshold or more, "scores": {label: score}}     for many labels

A model of pairs takes two arguments per pair, or lines {"text": ..., "text_pair": ...}.

A file keeps its columns and the order of its rows, and gets the columns predicted_label, predicted_score and
score_CLASS, or predicted_value. If it has labels, the scores of the whole file are printed.

Exit codes: 0 done; 2 invalid request; 1 any other error."""


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _predict(arguments), debug="--debug" in arguments, answers=True)


def argument_parser() -> Parser:
    """Returns the parser behind --help."""
    parser = Parser(_PROGRAM, usage='--model DIR ["text" ...]', description=_DESCRIPTION, groups=["texts", "files"])
    texts, files, run = parser.groups["texts"], parser.groups["files"], parser.groups["run"]
    texts.add_argument(
        "--pairs", action="store_true", help="texts are pairs (default: if the recipe of the model says so)"
    )
    texts.add_argument(
        "--threshold",
        metavar="X",
        type=fraction,
        help=f"score from which on a label is predicted, of a multi-label model (default: {_THRESHOLD})",
    )
    for name, doc in _FILE_FLAGS.items():
        files.add_argument(f"--{name}", metavar=name.rpartition("_")[2].upper(), help=doc)
    files.add_argument(
        "--quoting", choices=("minimal", "none"), help="whether values may be quoted (default: found out)"
    )
    files.add_argument("--skip_bad_rows", action="store_true", help="leave out rows that cannot be used, with a count")
    run.add_argument(
        "--batch_size",
        metavar="N",
        type=positive_integer,
        default=_BATCH_SIZE,
        help=f"texts per batch (default: {_BATCH_SIZE})",
    )
    run.add_argument("--threads", metavar="N", type=positive_integer, help="CPU threads (default: every core)")
    return parser


def _predict(arguments: list[str]) -> int:
    given, texts = argument_parser().parse(arguments, takes_texts=True)
    source = find_trained_model(working_folder() / Path(given.model).expanduser(), max_seq_length=given.max_seq_length)
    if given.threshold is not None and not source.is_multi_label:
        raise RequestError(f"--threshold is for models with many labels a text, which {source.folder} is not")
    threshold = _THRESHOLD if given.threshold is None else given.threshold
    if given.input_file is not None:
        return _predict_file(given, texts, source, threshold=threshold)
    if named := next((name for name in (*_FILE_FLAGS, "quoting") if getattr(given, name) is not None), None):
        raise RequestError(f"--{named} needs --input_file")
    _refuse_tables(texts)
    for at, text in enumerate(texts, 1):
        if not text.strip():
            raise RequestError(f"text {at} is empty: leave it out")
    pairs = expects_pairs(source, flag=given.pairs)
    given_texts: list[Text] = [*pair_arguments(texts)] if pairs else [*texts]
    if not texts and sys.stdin.isatty():
        sys.stderr.write(f"{_PROGRAM}: reading {'pairs' if pairs else 'texts'}, one per line; Ctrl-D ends the input\n")
    size = given.batch_size * _BATCHES_A_WINDOW
    _print_all(
        _windows(given_texts, size, pairs=pairs),
        source=source,
        threshold=threshold,
        batch_size=given.batch_size,
        threads=given.threads,
    )
    return EXIT_DONE


def _windows(texts: list[Text], size: int, *, pairs: bool) -> Iterator[list[Text]]:
    if texts:
        return (texts[start : start + size] for start in range(0, len(texts), size))
    stdin: BinaryIO = sys.stdin.buffer
    parse: Callable[[str, int], Text] = parse_pair if pairs else as_text
    return text_windows(stdin, size=size, parse=parse)


def _refuse_tables(texts: list[str]) -> None:
    """Refuses files of rows in the place of texts: their names, or their lines on standard input."""
    stdin = Path("/proc/self/fd/0")
    # A name of more bytes is an error to ask for.
    names = [text for text in texts if text.lower().endswith(_TABLES) and len(text.encode()) <= _MAX_NAME_BYTES]
    given = [name for name in names if (working_folder() / name).is_file()]
    if not texts and stdin.is_symlink() and stdin.is_file():
        given = [name for name in [str(stdin.readlink())] if name.lower().endswith(_TABLES)]
    for table in given[:1]:
        raise RequestError(f"{table} is a file of rows, not of texts: --input_file {table} --output_file scored.csv")


def _predict_file(given: argparse.Namespace, texts: list[str], source: TrainedModel, *, threshold: float) -> int:
    if texts:
        raise RequestError(f"--input_file and texts ({texts[0]!r:.40}) are mutually exclusive")
    if given.output_file is None:
        raise RequestError("--output_file is missing: name a .csv, .tsv, .jsonl or .parquet file")
    from src.training.inference.scored_file import check_files, read_rows_to_score, refuse_taken_columns, write_scored

    logging.basicConfig(level=logging.INFO, format=f"{_PROGRAM}: %(message)s")
    paths = [working_folder() / Path(name).expanduser() for name in (given.input_file, given.output_file)]
    check_files(*paths)
    rows = read_rows_to_score(
        paths[0],
        source=source,
        options=_read_options(given),
        text=given.text_column_name,
        pair=given.text_pair_column_name,
        label=given.label_column_name,
    )
    refuse_taken_columns(rows.table, _answer([0.0] * len(source.class_names), source=source, threshold=threshold))
    classifier = _load(source, threads=given.threads)
    import numpy as np

    from src.training.inference.classifier import to_scores

    size = given.batch_size * _BATCHES_A_WINDOW
    windows = [rows.texts[start : start + size] for start in range(0, len(rows.texts), size)]
    logits = np.concatenate([classifier.logits(window, batch_size=given.batch_size) for window in windows])
    scores = to_scores(logits, classifier.model.config).tolist()
    write_scored(paths[1], rows.table, [_answer(of_row, source=source, threshold=threshold) for of_row in scores])
    for line in _score_lines(rows, logits, classifier, threshold=threshold):
        sys.stdout.write(line + "\n")
    return EXIT_DONE


def _read_options(given: argparse.Namespace) -> ReadOptions:
    fields, mistakes = parse_fields(
        {name: getattr(given, name) for name in ("delimiter", "encoding", "quoting", "skip_bad_rows")}, prefix="--"
    )
    if mistakes:
        raise RequestError("; ".join(mistakes))
    return ReadOptions(**fields)


def _score_lines(rows: RowsToScore, logits: np.ndarray, classifier: Classifier, *, threshold: float) -> list[str]:
    """Returns the scores of all rows whose labels the model knows, and how many others have labels."""
    lines = []
    if rows.unknown:
        label = next(iter(rows.unknown.values()))
        lines = [f"Not scored: {len(rows.unknown):,} rows with labels that the model lacks, such as {label!r:.50}"]
    source = classifier.source
    if not rows.labels or not (source.is_classifier or source.is_regression or source.is_multi_label):
        return lines
    import numpy as np

    from src.training.problems.kinds import problem_of_config
    from src.training.problems.multi_label.problem import MultiLabel

    problem = problem_of_config(classifier.model.config)
    if isinstance(problem, MultiLabel):
        problem = dataclasses.replace(problem, threshold=threshold)
    labels = np.array([*rows.labels.values()], np.int64 if source.is_classifier else np.float32)
    scored = problem.score(logits[[*rows.labels]], labels, split=rows.table.origin)
    return [*scored.metrics.lines(), *lines]


def _load(source: TrainedModel, *, threads: int | None) -> Classifier:
    prepare_environment("off")
    import torch

    from src.training.inference.classifier import load_classifier

    torch.set_num_threads(threads or available_cores())
    return load_classifier(source)


def _print_all(
    windows: Iterator[list[Text]], *, source: TrainedModel, threshold: float, batch_size: int, threads: int | None
) -> None:
    # Before the model is loaded: mistakes in the first lines are reported at once.
    first = next(windows, None)
    if first is None:
        return
    classifier = _load(source, threads=threads)
    _print_window(first, classifier=classifier, threshold=threshold, batch_size=batch_size)
    for window in windows:
        _print_window(window, classifier=classifier, threshold=threshold, batch_size=batch_size)


def _print_window(texts: list[Text], *, classifier: Classifier, threshold: float, batch_size: int) -> None:
    for text, scores in zip(texts, classifier.scores(texts, batch_size=batch_size).tolist(), strict=True):
        fields = {"text": text} if isinstance(text, str) else dict(zip(("text", "text_pair"), text, strict=True))
        line = fields | _answer(scores, source=classifier.source, threshold=threshold)
        sys.stdout.buffer.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    sys.stdout.buffer.flush()


def _answer(scores: list[float], *, source: TrainedModel, threshold: float) -> dict[str, Any]:
    if source.is_regression:
        return {"value": scores[0]}
    names = source.class_names
    if source.is_multi_label:
        named = dict(zip(names, scores, strict=True))
        return {"labels": [name for name, score in named.items() if score >= threshold], "scores": named}
    best = max(range(len(names)), key=scores.__getitem__)
    return {"label": names[best], "score": scores[best], "scores": dict(zip(names, scores, strict=True))}


if __name__ == "__main__":
    # Ctrl-C loses nothing: end silently, as other filters do.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
