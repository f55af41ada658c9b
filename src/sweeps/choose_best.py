"""The program of the action that hands out the best model of a sweep.

choose_best --manifest FILE --model DIR --run DIR
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.disk.durable import write_json
from src.sweeps.points import Point, read_sweep
from src.sweeps.ranking import Ranking, rank

_CHOICE = "choice.json"


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("choose_best", lambda: _copy(arguments), debug=False)


def _copy(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="choose_best", allow_abbrev=False)
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="for the artifact folder")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="for the records of its run")
    given = parser.parse_args(arguments)
    ranking = rank(read_sweep(given.manifest))
    best = ranking.best_point
    if best is None or best.model is None or best.run is None:
        raise RequestError(
            f"no setting of {ranking.sweep.label} has scores of all its seeds: see {ranking.sweep.label}.leaderboard"
        )
    shutil.copytree(best.model, given.model, dirs_exist_ok=True)
    shutil.copytree(best.run, given.run, dirs_exist_ok=True)
    write_json(given.run / _CHOICE, _choice(ranking, best))
    return EXIT_DONE


def _choice(ranking: Ranking, best: Point) -> dict[str, object]:
    return {
        "sweep": ranking.sweep.label,
        "point": best.label,
        "settings": dict(best.settings),
        "seed": best.seed,
        "score": ranking.score,
        "validation": dict(best.outcome.validation),
        "test": dict(best.outcome.test),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
