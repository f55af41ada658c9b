"""Reads the execution platform from docker/platform.bzl, its single source of truth."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

# In the source tree and in runfiles alike: //docker:platform.bzl is data of this module.
PLATFORM_FILE = Path(__file__).parents[3] / "docker" / "platform.bzl"

_CONSTANTS = ("EXEC_PROPERTIES", "EXECUTOR_IMAGE", "ACTION_TIME_LIMIT_SECONDS")


@dataclass(frozen=True, kw_only=True)
class ExecutionPlatform:
    """What a remote action requests and a worker offers.

    `exec_properties` are REAPI platform properties, name to value. `base_image` and `container_image` are references
    with a digest, the latter after `docker://`. `python` is the path of the image's interpreter, which has the locked
    packages.
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
        ValueError: a constant is missing, or is not a literal.
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
    # Starlark's literals are Python's; literal_eval refuses anything computed.
    constants: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = ast.literal_eval(node.value)
    if missing := [name for name in _CONSTANTS if name not in constants]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return constants
