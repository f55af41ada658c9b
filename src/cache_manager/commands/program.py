"""The cache's command line: which command is meant, and how its answer or its error is printed."""

from __future__ import annotations

import argparse
import re
import sys

from src.cache_manager.commands import (
    checking_commands,
    evicting_commands,
    listing_commands,
    moving_commands,
    run_commands,
)
from src.cache_manager.commands.command import Answer, Commands
from src.cache_manager.store.layout import default_root
from src.cache_manager.store.store import CacheError, Store
from src.cli.errors import EXIT_FAILED, RequestError, exit_code_of
from src.cli.parser import RefusingParser, did_you_mean

_PROGRAM = "cache_manager"
_COMMAND_LINE = "bazel run //src/cache_manager:cache_manager --"
_DEFAULT = "demo"
# Flags that may also stand before the command.
_OUTPUT_FLAGS = ("--json", "--debug")


def run_command(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _answer(arguments), debug="--debug" in arguments)


def _answer(arguments: list[str]) -> int:
    options = _parse(arguments)
    try:
        answer: Answer = options.run(Store(default_root()), options)
    except CacheError as error:
        # Not by exit_code_of, which speaks of checkpoints where a disk is full.
        sys.stderr.write(f"{_PROGRAM}: {error}\n")
        return EXIT_FAILED
    answer.write(as_json=options.json)
    return answer.exit_code


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Returns a command's options, with the flags of train_model as `run_flags`.

    Raises:
        RequestError: the command or a flag is unknown, or an argument is missing or one too many.
    """
    parser, commands = build_parser()
    words = [argument for argument in arguments if argument not in _OUTPUT_FLAGS]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        arguments = [_DEFAULT, *arguments]
    elif not words[0].startswith("-") and words[0] not in commands.choices:
        hint = did_you_mean(words[0], commands.choices)
        raise RequestError(f"{words[0]!r} is not a command{hint}: {', '.join(commands.choices)}")
    options, rest = parser.parse_known_args(arguments, argparse.Namespace(json=False))
    if rest and not options.takes_run_flags:
        raise _unknown(rest[0], options.command, usage=commands.choices[options.command].format_usage())
    options.run_flags = rest
    return options


def _unknown(argument: str, command: str, *, usage: str) -> RequestError:
    if not argument.startswith("-"):
        return RequestError(f"unexpected argument {argument!r}: see {command} --help")
    flag = argument.partition("=")[0]
    hint = did_you_mean(flag, re.findall(r"--\w+", usage)) or f": see {command} --help"
    return RequestError(f"{flag} is not a flag of {command}{hint}")


def build_parser() -> tuple[RefusingParser, Commands]:
    """Returns the program's parser, and the parsers of its commands."""
    parser = RefusingParser(
        prog=_PROGRAM,
        usage=f"{_COMMAND_LINE} [COMMAND] [FLAGS] [--json]",
        description="Keeps trained models under a hash of everything that decides them.",
        epilog=f"""\
COMMAND --help lists the command's flags; without a command, `{_DEFAULT}` runs. A KEY may be cut to its first digits.

The cache is in {default_root()} ($FINETUNE_CACHE_DIR) and holds at most
$FINETUNE_CACHE_MAX_SIZE (such as 20GB; default: no limit).

Exit codes: 0 done; 2 wrong request; 3 stopped with a checkpoint; 1 any other error, and bad models that `verify` found.
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", prog=_COMMAND_LINE)
    for module in (run_commands, listing_commands, checking_commands, evicting_commands, moving_commands):
        module.add_commands(commands)
    for each in (parser, *commands.choices.values()):
        _add_output_flags(each)
    return parser, commands


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    # Without a default: that of a command's parser would override what was given before the command.
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON value instead of lines"
    )
    # train_model has a --debug of its own.
    if not parser.get_default("takes_run_flags"):
        output.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
