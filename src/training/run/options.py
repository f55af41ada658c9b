"""How to run: the options of a run that do not change the model."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.cli.working_folder import working_folder
from src.training.engine.settings import CHECKPOINT_SECONDS
from src.training.recipes.settings import parse_settings, positive_integer, setting, settings_of

# Under a test: time to save a checkpoint and to pack the outputs before the test is killed.
_TEST_TIMEOUT_SHARE = 0.85


def _folder(value: str) -> Path:
    if not value:
        raise ValueError("must be a folder")
    return working_folder() / Path(value).expanduser()


def _seconds(default: float | None, doc: str) -> Any:
    must = "must be a number of seconds, 0 or more"
    return setting(default, doc, check=lambda value: 0 <= value < math.inf, must=must)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run. None of this changes the model."""

    output_dir: Path | None = setting(
        None,
        "folder for the model (default: finetuned/<recipe>-<digest> in the current folder)",
        convert=_folder,
    )
    overwrite_output_dir: bool = setting(
        False, "replace a model of another recipe in output_dir; other files are never replaced"
    )
    resume_from_checkpoint: str = setting(
        "auto",
        "auto: resume a stopped run of the same recipe; true: fail if there is none; false: start over",
        choices=("auto", "true", "false"),
    )
    checkpoint_seconds: float = _seconds(CHECKPOINT_SECONDS, "seconds between checkpoints; 0: one after each step")
    save_total_limit: int = positive_integer(
        1, "number of checkpoints to keep; if the newest is damaged, the run resumes from the one before"
    )
    deadline_seconds: float | None = _seconds(
        None, "stop with a checkpoint after this many seconds (default: 85 % of the time limit under a test)"
    )
    push_to_hub: bool = setting(False, "upload the finished model, without report.html, to the hub (token: HF_TOKEN)")
    hub_model_id: str | None = setting(None, "its name there: NAME or OWNER/NAME (default: the name of output_dir)")
    hub_private_repo: bool = setting(False, "make a new repository private")
    debug: bool = setting(False, "show the traceback of an error")


OPTIONS = settings_of(RunOptions)


def parse_options(raw: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Converts the run options of a command line. Returns the values and one phrase for each mistake."""
    options, mistakes = parse_settings(raw, OPTIONS, prefix="--")
    if "deadline_seconds" not in raw and os.environ.get("TEST_TIMEOUT"):
        options["deadline_seconds"] = _TEST_TIMEOUT_SHARE * float(os.environ["TEST_TIMEOUT"])
    return options, mistakes
