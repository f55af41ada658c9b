"""How a command joins the command line, and how its answer is printed: as lines or as one JSON value."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from src.cache_manager.store.store import Store
from src.cli.errors import EXIT_DONE
from src.cli.parser import RefusingParser
from src.cli.terminal import printable

Commands: TypeAlias = "argparse._SubParsersAction[RefusingParser]"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command prints, and the program's exit code.

    Attributes:
        data: for --json.
        lines: for people.
    """

    data: Any
    lines: Iterable[str]
    exit_code: int = EXIT_DONE

    def write(self, *, as_json: bool) -> None:
        """Prints the data or the lines."""
        if as_json:
            sys.stdout.write(_json(self.data) + "\n")
        else:
            sys.stdout.writelines(f"{printable(line)}\n" for line in self.lines)


def _json(data: Any) -> str:
    """Returns JSON. Of a list each element is one line: without indent=2, json.dumps runs in C for 10,000 of them."""
    if isinstance(data, list) and data:
        return "[\n" + ",\n".join(_escaped(json.dumps(element, ensure_ascii=False)) for element in data) + "\n]"
    return "\n".join(map(_escaped, json.dumps(data, indent=2, ensure_ascii=False).split("\n")))


def _escaped(line: str) -> str:
    """Returns a line of JSON with what does not print as JSON's own escapes."""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def add_command(
    commands: Commands, name: str, run: Callable[[Store, argparse.Namespace], Answer], *, summary: str
) -> RefusingParser:
    """Adds a command; returns its parser, for the command's own arguments and groups of flags.

    Args:
        commands: of the program.
        name: as it is typed.
        run: answers.
        summary: one line for --help.
    """
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.set_defaults(run=run, takes_run_flags=False)
    return parser
