"""Flags of the programs that use a trained model; a mistake in them is one sentence. Nothing heavy is imported."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

from src.cli.errors import RequestError
from src.cli.parser import RefusingParser, did_you_mean


class Parser(RefusingParser):
    """What the programs that use a trained model have in common."""

    def __init__(self, program: str, *, usage: str, description: str) -> None:
        super().__init__(
            prog=program,
            usage=f"bazel run //src/training:{program} -- {usage}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--model", metavar="DIR", help="folder of a trained model")
        self.add_argument("--max_seq_length", metavar="N", type=whole_number, help="tokens a text is cut to")
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse(self, arguments: Sequence[str], *, takes_texts: bool = False) -> tuple[argparse.Namespace, list[str]]:
        """Parses a command line.

        Args:
            arguments: without the program's name.
            takes_texts: whether words may stand alone. One that begins with a dash goes after `--`, or has a space.

        Returns:
            The flags, and the words that stand alone.

        Raises:
            RequestError: a flag is unknown or has a wrong value, or the model is not named.
        """
        # Not by argparse, whose releases up to 3.11 lose a `--` among flags and words.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        given, words = self.parse_known_args(arguments[:end])
        for word in words:
            if word.startswith("-") and " " not in word:
                raise self._unknown(word, takes_texts=takes_texts)
        words += arguments[end + 1 :]
        if words and not takes_texts:
            raise RequestError(f"{words[0]!r} stands alone: every argument is a --flag with its value")
        if not given.model:
            raise RequestError("--model is missing: name the folder of a trained model")
        return given, words

    def _unknown(self, argument: str, *, takes_texts: bool) -> RequestError:
        flag = argument.partition("=")[0]
        flags = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        hint = ": see --help" + ("; a text that begins with a dash goes after --" if takes_texts else "")
        return RequestError(f"{flag} is not a flag{did_you_mean(flag, flags) or hint}")


def whole_number(value: str) -> int:
    """Converts a flag's value to a whole number above 0."""
    return _checked(value, convert=int, must="a whole number above 0", check=lambda number: number > 0)


def share(value: str) -> float:
    """Converts a flag's value to a number from 0 to 1."""
    return _checked(value, convert=float, must="a number from 0 to 1", check=lambda number: 0 <= number <= 1)


def _checked(value: str, *, convert: Callable[[str], Any], must: str, check: Callable[[Any], bool]) -> Any:
    try:
        number = convert(value)
    except ValueError:
        number = math.nan
    if not check(number):
        raise argparse.ArgumentTypeError(f"must be {must}, not {value!r}")
    return number
