"""Predicts the class or the number of texts with a trained model: bazel run //src/training:predict -- --help"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.working_folder import working_folder
from src.training.environment.cores import available_cores
from src.training.environment.determinism import prepare_environment
from src.training.inference.arguments import Parser, fraction, positive_integer
from src.training.inference.lines import as_text, text_windows
from src.training.inference.model_folder import TrainedModel, find_trained_model
from src.training.inference.pairs import Text, expects_pairs, pair_arguments, parse_pair

if TYPE_CHECKING:
    from src.training.inference.classifier import Classifier

_PROGRAM = "predict"
_BATCH_SIZE = 64
_THRESHOLD = 0.5
# Texts sorted by length together: enough for little padding, few enough to answer soon.
_BATCHES_A_WINDOW = 16
_DESCRIPTION = """\
Predicts the class, or the number, of each text with a trained model, and prints JSON lines:

  --model finetuned/embedded-1a2b3c4d "a fine film" "a dull film"
  --model finetuned/embedded-1a2b3c4d < texts.txt            one text a line
  --model finetuned/embedded-1a2b3c4d -- "-3 of 10"          texts that begin with a dash

{"text": ..., "label": the class with the highest score, "score": its score, "scores": {class: score}}
{"text": ..., "value": the number}                           for a regression
{"text": ..., "labels": those with a score of --threshold or more, "scores": {label: score}}     for many labels

A model of pairs takes two arguments per pair, or lines {"text": ..., "text_pair": ...}.

Exit codes: 0 done; 2 invalid request; 1 any other error."""


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _predict(arguments), debug="--debug" in arguments, answers=True)


def argument_parser() -> Parser:
    """Returns the parser behind --help."""
    parser = Parser(_PROGRAM, usage='--model DIR ["text" ...]', description=_DESCRIPTION, groups=["texts"])
    texts, run = parser.groups["texts"], parser.groups["run"]
    texts.add_argument(
        "--pairs", action="store_true", help="texts are pairs (default: if the recipe of the model says so)"
    )
    texts.add_argument(
        "--threshold",
        metavar="X",
        type=fraction,
        help=f"score from which on a label is predicted, of a multi-label model (default: {_THRESHOLD})",
    )
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


def _print_all(
    windows: Iterator[list[Text]], *, source: TrainedModel, threshold: float, batch_size: int, threads: int | None
) -> None:
    # Before the model is loaded: mistakes in the first lines are reported at once.
    first = next(windows, None)
    if first is None:
        return
    prepare_environment("off")
    import torch

    from src.training.inference.classifier import load_classifier

    torch.set_num_threads(threads or available_cores())
    classifier = load_classifier(source)
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
