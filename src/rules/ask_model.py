"""The program of NAME.predict: asks a model that was built, whichever kind it is.

ask_model PATH_IN_RUNFILES [FLAGS AND TEXTS as for //src/training:predict or //src/training:generate]
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from src.disk.json_files import read_json
from src.training import generate, predict
from src.training.model.language_model import is_language_model

# Not resolved: in runfiles this file is a link into the checkout, where nothing is built.
_RUNFILES = Path(__file__).absolute().parents[2]


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    folder = _RUNFILES / arguments[0]
    program = generate if is_language_model(read_json(folder / "config.json").get("architectures") or ()) else predict
    return program.main(["--model", str(folder), *arguments[1:]])


if __name__ == "__main__":
    # As in the programs themselves: Ctrl-C loses nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
