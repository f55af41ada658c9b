"""Where a program was called: `bazel run` starts it in its runfiles, and gives the user's folder in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def working_folder() -> Path:
    """Returns the folder the user typed the command in; under `bazel run` that is not the current one."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY") or Path.cwd())


def workspace_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the repository's root as `bazel run` gives it; without Bazel, the current folder."""
    return Path(environment.get("BUILD_WORKSPACE_DIRECTORY") or Path.cwd())
