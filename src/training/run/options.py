"""How to run: the options of a run that do not change the model, and every mistake in them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.working_folder import working_folder
from src.training.engine.settings import CHECKPOINT_SECONDS
from src.training.recipes.files import shipped_recipes

# Under a test: time to save a checkpoint and to pack the outputs before the test is killed.
_TEST_TIMEOUT_SHARE = 0.85

OPTIONS = {
    "recipe": f"the run to start from: {', '.join(shipped_recipes())}, or the path of a .yaml file",
    "output_dir": "where the model goes (default: finetuned/<recipe>-<digest> in the current folder)",
    "overwrite_output_dir": "replace a model of another recipe in output_dir; anything else there is never touched",
    "resume_from_checkpoint": "auto: continue a stopped run of the same recipe; true: and fail if there is none; "
    "false: start anew",
    "checkpoint_seconds": f"save a checkpoint after so many seconds (default: {CHECKPOINT_SECONDS:g}); 0: at each step",
    "save_total_limit": "checkpoints that are kept, the newest ones (default: 1); a damaged one then costs no more "
    "than the time back to the one before",
    "deadline_seconds": "stop with a checkpoint after this time (default under a test: 85 %% of its time limit)",
    "debug": "show the traceback of an error",
}
SWITCHES = ("overwrite_output_dir", "debug")
_SECONDS = ("checkpoint_seconds", "deadline_seconds")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run. None of this changes the model."""

    output_dir: Path | None = None
    overwrite_output_dir: bool = False
    resume_from_checkpoint: str = "auto"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    save_total_limit: int = 1
    deadline_seconds: float | None = None
    debug: bool = False


def parse_options(raw: Mapping[str, str | None]) -> tuple[dict[str, Any], list[str]]:
    """Converts the run options. Returns the values, `recipe` among them, and one phrase for each mistake."""
    options: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, value in raw.items():
        try:
            options[key] = _option(key, value or "")
        except ValueError as error:
            mistakes.append(f"--{key} {error}" + (f", not {value!r}" if value else ""))
    if "deadline_seconds" not in raw and os.environ.get("TEST_TIMEOUT"):
        options["deadline_seconds"] = _TEST_TIMEOUT_SHARE * float(os.environ["TEST_TIMEOUT"])
    return options, mistakes


def _option(key: str, value: str) -> Any:
    """Converts one option; a ValueError says what it must be."""
    if not value:
        raise ValueError("needs a value")
    if key == "output_dir":
        return working_folder() / Path(value).expanduser()
    if key == "resume_from_checkpoint" and value not in ("auto", "true", "false"):
        raise ValueError("must be auto, true or false")
    if key in SWITCHES:
        if value.lower() not in ("true", "false"):
            raise ValueError("must be true or false")
        return value.lower() == "true"
    if key in _SECONDS:
        seconds = _number(value)
        if not 0 <= seconds < math.inf:
            raise ValueError("must be a number of seconds, 0 or more")
        return seconds
    if key == "save_total_limit":
        limit = _number(value)
        if not (1 <= limit < math.inf and limit == int(limit)):
            raise ValueError("must be a whole number above 0")
        return int(limit)
    return value


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
