"""The program of the action that ranks a sweep.

leaderboard --manifest FILE --text FILE --page FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from src.cli.errors import EXIT_DONE, exit_code_of
from src.sweeps.page import leaderboard_page
from src.sweeps.points import read_sweep
from src.sweeps.ranking import rank
from src.sweeps.summary import summary


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("leaderboard", lambda: _write(arguments), debug=False)


def _write(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="leaderboard", allow_abbrev=False)
    for name in ("manifest", "text", "page"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE")
    given = parser.parse_args(arguments)
    ranking = rank(read_sweep(given.manifest))
    given.text.write_text(summary(ranking), encoding="utf-8")
    given.page.write_text(leaderboard_page(ranking), encoding="utf-8")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
