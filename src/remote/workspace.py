"""Where the repository is that a program was called in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def workspace_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the repository's root as `bazel run` tells it; without Bazel, the current folder."""
    return Path(environment.get("BUILD_WORKSPACE_DIRECTORY") or Path.cwd())
