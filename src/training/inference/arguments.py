"""Command lines of the programs that use a trained model. Nothing heavy is imported."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

from src.cli.errors import RequestError
from src.cli.parser import RefusingParser, did_you_mean


class Parser(RefusingParser):
    """Flags that all of these programs have, and how they report mistakes.

    Attributes:
        groups: of flags, by their titles in --help.
    """

    def __init__(
        self, program: str, *, usage: str, description: str, groups: Sequence[str], truncates: bool = True
    ) -> None:
        super().__init__(
            prog=program,
            usage=f"bazel run //src/training:{program} -- {usage}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.groups = {title: self.add_argument_group(title) for title in ("model", *groups, "run")}
        self.groups["model"].add_argument("--model", metavar="DIR", help="folder of a trained model")
        if truncates:
            self.groups["model"].add_argument(
                "--max_seq_length",
                metavar="N",
                type=positive_integer,
                help="maximum tokens of a text; longer ones are truncated (default: as in training)",
            )
        self.groups["run"].add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse(self, arguments: Sequence[str], *, takes_texts: bool = False) -> tuple[argparse.Namespace, list[str]]:
        """Parses a command line.

        Args:
            arguments: without the program's name.
            takes_texts: whether there may be arguments without a flag; those with a leading dash and no space go after
                `--`.

        Returns:
            The flags, and the arguments without a flag.

        Raises:
            RequestError: a flag is unknown or invalid, or the model is missing.
        """
        # Not by argparse, whose releases up to 3.11 lose a `--` among flags and words.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        given, words = self.parse_known_args(arguments[:end])
        for word in words:
            if word.startswith("-") and " " not in word:
                raise self._unknown(word, takes_texts=takes_texts)
        words += arguments[end + 1 :]
        if words and not takes_texts:
            raise RequestError(f"unexpected argument {words[0]!r}: every argument is a --flag with its value")
        if not given.model:
            raise RequestError("--model is missing: name the folder of a trained model")
        return given, words

    def _unknown(self, argument: str, *, takes_texts: bool) -> RequestError:
        flag = argument.partition("=")[0]
        flags = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        hint = ": see --help" + ("; a text that begins with a dash goes after --" if takes_texts else "")
        return RequestError(f"{flag} is not a flag{did_you_mean(flag, flags) or hint}")


def positive_integer(value: str) -> int:
    """Converts a flag's value to a whole number above 0."""
    return _checked(value, convert=int, must="a whole number above 0", check=lambda number: number > 0)


def fraction(value: str) -> float:
    """Converts a flag's value to a number from 0 to 1."""
    return _checked(value, convert=float, must="a number from 0 to 1", check=lambda number: 0 <= number <= 1)


def whole_number(value: str) -> int:
    """Converts a flag's value to a whole number, 0 or more."""
    return _checked(value, convert=int, must="a whole number, 0 or more", check=lambda number: number >= 0)


def non_negative(value: str) -> float:
    """Converts a flag's value to a number, 0 or more."""
    must = "a number, 0 or more"
    return _checked(value, convert=float, must=must, check=lambda number: 0 <= number < math.inf)


def truth(value: str) -> bool:
    """Converts a flag's value, true or false."""
    if value.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, not {value!r}")
    return value.lower() == "true"


def _checked(value: str, *, convert: Callable[[str], Any], must: str, check: Callable[[Any], bool]) -> Any:
    try:
        number = convert(value)
    except ValueError:
        number = math.nan
    if not check(number):
        raise argparse.ArgumentTypeError(f"must be {must}, not {value!r}")
    return number
