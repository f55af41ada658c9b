"""The execution platform of docker/platform.bzl, for Python: that file is the only place where it is written down."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

# Beside the sources, and beside the runfiles of whoever names //docker:platform.bzl as data.
PLATFORM_FILE = Path(__file__).parents[3] / "docker" / "platform.bzl"

_CONSTANTS = ("EXEC_PROPERTIES", "EXECUTOR_IMAGE", "ACTION_TIME_LIMIT_SECONDS")


@dataclass(frozen=True, kw_only=True)
class ExecutionPlatform:
    """What a remote action asks for and a worker offers.

    `exec_properties` are REAPI platform properties, name to value. `base_image` and `container_image` are references
    with a digest, the second one after `docker://`. `python` is the path of the interpreter in the image that has the
    locked packages.
    """

    exec_properties: Mapping[str, str]
    base_image: str
    image_name: str
    inputs_sha256: str
    python: str
    action_time_limit_seconds: int

    @property
    def container_image(self) -> str:
        """The image string that client and worker compare."""
        return self.exec_properties["container-image"]

    @property
    def cpu_count(self) -> int:
        """CPUs that an action reserves and a worker has."""
        return int(self.exec_properties["cpu_count"])


def read_platform(path: Path = PLATFORM_FILE) -> ExecutionPlatform:
    """Reads the execution platform.

    Raises:
        OSError: the file cannot be read.
        ValueError: it lacks one of its constants, or computes one.
    """
    constants = _constants(path)
    image = constants["EXECUTOR_IMAGE"]
    return ExecutionPlatform(
        exec_properties=MappingProxyType(constants["EXEC_PROPERTIES"]),
        base_image=image["base"],
        image_name=image["name"],
        inputs_sha256=image["inputs_sha256"],
        python=image["python"],
        action_time_limit_seconds=constants["ACTION_TIME_LIMIT_SECONDS"],
    )


def _constants(path: Path) -> dict[str, Any]:
    # Starlark's literals are Python's; anything computed is refused by literal_eval.
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    if missing := [name for name in _CONSTANTS if name not in found]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return found
