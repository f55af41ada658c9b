"""The program of finetuned_model_test: fails for a model whose scores are not as good as promised.

check_scores DIR --min accuracy=0.8 answers.exact_match.share=0.5 --max loss=0.6
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of
from src.cli.parser import RefusingParser, did_you_mean
from src.disk.json_files import read_json


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("check_scores", lambda: _check(arguments), debug=False)


def _check(arguments: list[str]) -> int:
    parser = RefusingParser(prog="check_scores", allow_abbrev=False)
    parser.add_argument("model", type=Path, metavar="DIR", help="artifact folder")
    parser.add_argument("--min", nargs="+", default=[], type=_limit, metavar="SCORE=X", help="at least")
    parser.add_argument("--max", nargs="+", default=[], type=_limit, metavar="SCORE=X", help="at most")
    given = parser.parse_args(arguments)
    after = read_json(given.model / "metrics.json")["after"]
    lines = list(findings(after, lowest=dict(given.min), highest=dict(given.max)))
    for line, _ in lines:
        print(line)
    if all(is_kept for _, is_kept in lines):
        return EXIT_DONE
    print(f"{given.model.name} is worse than promised, on {after['examples']:,} {after['split']} rows")
    return EXIT_FAILED


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be SCORE=NUMBER, not {text!r}") from None


def findings(
    metrics: Mapping[str, Any], *, lowest: Mapping[str, float], highest: Mapping[str, float]
) -> Iterator[tuple[str, bool]]:
    """Yields a sentence for each promise, and whether it is kept. A score that is no number keeps none.

    Args:
        metrics: `after` of metrics.json.
        lowest: what scores have to reach, by their names; those of nested ones have dots.
        highest: what they may not exceed.

    Raises:
        RequestError: there is no score of that name.
    """
    scores = dict(named_numbers(metrics))
    for limits, words, sign in ((lowest, "at least", 1), (highest, "at most", -1)):
        for name, limit in limits.items():
            if name not in scores:
                hint = did_you_mean(name, scores) or f": choose one of {', '.join(scores)}"
                raise RequestError(f"the model has no score {name}{hint}")
            score = scores[name]
            is_kept = sign * (score - limit) >= 0
            yield f"{'ok  ' if is_kept else 'FAIL'} {name} is {score:.6g}, promised {words} {limit:g}", is_kept


def named_numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields the dotted name and value of each score; NaN for those that could not be computed."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from named_numbers(value, f"{prefix}{name}.")
        elif value is None:
            yield prefix + name, math.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
