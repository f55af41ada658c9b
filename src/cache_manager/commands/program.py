"""The cache's command line: which command is meant, and how its answer or its error is told."""

from __future__ import annotations

import difflib
import sys

from src.cache_manager.commands import (
    checking_commands,
    evicting_commands,
    hub_commands,
    listing_commands,
    moving_commands,
    run_commands,
)
from src.cache_manager.store.layout import default_root
from src.cache_manager.store.store import CacheError, Store
from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of

_PROGRAM = "cache_manager"
_DEFAULT = "demo"
COMMANDS = {
    command.name: command
    for module in (
        run_commands,
        listing_commands,
        checking_commands,
        evicting_commands,
        moving_commands,
        hub_commands,
    )
    for command in module.COMMANDS
}
_HELP = """\
usage: bazel run //src/cache_manager:cache_manager -- [COMMAND] [FLAGS] [--json]

Keeps trained models by a hash of all that decides them. COMMAND --help tells more of one:

{commands}

A KEY may be cut to its first digits. The cache lies in {root} ($FINETUNE_CACHE_DIR) and holds
at most $FINETUNE_CACHE_MAX_SIZE (such as 20GB; default: no limit).

Exit codes: 0 done; 2 the request was wrong; 3 stopped with a checkpoint; 1 anything else, and what `verify` finds.
"""


def run_command(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _answer(arguments), debug="--debug" in arguments)


def _answer(arguments: list[str]) -> int:
    if arguments[:1] in (["--help"], ["-h"]):
        sys.stdout.write(_help())
        return EXIT_DONE
    name, rest = _split(arguments)
    command = COMMANDS[name]
    given = command.parse([argument for argument in rest if command.takes_run_flags or argument != "--debug"])
    try:
        answer = command.run(Store(default_root()), given)
    except CacheError as error:
        # Not by exit_code_of, which speaks of checkpoints where a disk is full.
        sys.stderr.write(f"{_PROGRAM}: {error}\n")
        return EXIT_FAILED
    answer.write(as_json=given.json)
    return answer.exit_code


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """Returns the command's name and what is meant for it."""
    words = [argument for argument in arguments if argument not in ("--json", "--debug")]
    if not words or words[0].startswith("-"):
        return _DEFAULT, arguments
    name = words[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise RequestError(f"{name!r} is not a command{hint}: {', '.join(COMMANDS)}")
    at = arguments.index(name)
    return name, arguments[:at] + arguments[at + 1 :]


def _help() -> str:
    commands = "\n".join(
        f"  {' '.join([command.name, *command.words]):<18} {command.summary}" for command in COMMANDS.values()
    )
    return _HELP.format(commands=commands, root=default_root())
