"""What a command is: its flags, and a function that answers; the answer is printed as lines or as one JSON document."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from src.cache_manager.store.store import Store
from src.cli.errors import EXIT_DONE, RequestError
from src.cli.parser import RefusingParser


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command has to say.

    Attributes:
        document: for --json.
        lines: for people.
        exit_code: of the program.
    """

    document: Any
    lines: Iterable[str]
    exit_code: int = EXIT_DONE

    def write(self, *, as_json: bool) -> None:
        """Prints it."""
        if as_json:
            sys.stdout.write(_json(self.document) + "\n")
        else:
            sys.stdout.writelines(f"{line}\n" for line in self.lines)


def _json(document: Any) -> str:
    """Returns JSON. Of a list each element is one line, which is written quickly also for ten thousand of them."""
    if isinstance(document, list) and document:
        return "[\n" + ",\n".join(json.dumps(element, ensure_ascii=False) for element in document) + "\n]"
    return json.dumps(document, indent=2, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of the cache.

    Attributes:
        name: as it is typed.
        usage: its words and flags.
        summary: one line for --help.
        run: answers.
        words: the names of the words that it takes; `KEY...` stands for any number, `[KEY...]` for none as well.
        values: its flags with a value, and what each means.
        switches: its flags without, and what each means.
        takes_run_flags: whether it takes the flags of train_model; they are in `run_flags`.
    """

    name: str
    summary: str
    run: Callable[[Store, argparse.Namespace], Answer]
    words: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    switches: tuple[tuple[str, str], ...] = ()
    takes_run_flags: bool = False

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parses what follows the command's name.

        Raises:
            RequestError: a flag is unknown or has no value, or a word is missing or one too many.
        """
        parser = RefusingParser(
            prog="cache_manager",
            usage=f"bazel run //src/cache_manager:cache_manager -- {self.usage}",
            description=self.summary,
            allow_abbrev=False,
        )
        for word in self.words:
            name, count = _word(word)
            parser.add_argument(name, nargs=count, metavar=word.strip("[].").replace("...", ""))
        for name, doc in self.values:
            parser.add_argument(name, help=doc, metavar="VALUE")
        for name, doc in (*self.switches, ("--json", "one JSON document instead of lines")):
            parser.add_argument(name, help=doc, action="store_true")
        given, rest = parser.parse_known_args(list(arguments))
        if rest and not self.takes_run_flags:
            raise _unknown(rest[0], self)
        given.run_flags = rest
        return given

    @property
    def usage(self) -> str:
        """Returns the command as it is typed."""
        flags = [f"[{name} VALUE]" for name, _ in self.values] + [f"[{name}]" for name, _ in self.switches]
        run = ["[FLAGS OF train_model]"] if self.takes_run_flags else []
        return " ".join([self.name, *self.words, *flags, *run, "[--json]"])


def _word(word: str) -> tuple[str, str | None]:
    """Returns the name under which a word is found, and how many there may be, as argparse says it."""
    count = "*" if word.startswith("[") else "+" if word.endswith("...") else None
    name = word.strip("[].").lower()
    return (f"{name}s" if count else name), count


def _unknown(argument: str, command: Command) -> RequestError:
    if not argument.startswith("-"):
        return RequestError(f"{argument!r} is one word too many for {command.name}: see {command.name} --help")
    flag = argument.partition("=")[0]
    flags = [name for name, _ in (*command.values, *command.switches)] + ["--json"]
    near = difflib.get_close_matches(flag, flags, n=1)
    hint = f" (did you mean {near[0]}?)" if near else f": {command.usage}"
    return RequestError(f"{flag} is not a flag of {command.name}{hint}")
