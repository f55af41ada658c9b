"""The inputs of the executor's image: their digest decides whether the image is built again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from src.remote.config.execution_platform import read_platform

_ROOT = Path(__file__).parents[3]
_INPUTS = (
    *("bazel_requirements_lock.txt", "tools/torch_cuda_lock.txt", "docker/install_system.sh"),
    *("docker/omitted_packages.txt", "docker/omitted_files.txt"),
    *("src/remote/image/debian_lock.txt", "src/remote/image/inputs.py"),
    *("src/remote/image/rootfs.py", "src/remote/image/oci_layout.py"),
)
# Stored beside the image: the digest of its inputs.
STAMP = "inputs.txt"


def inputs_digest() -> str:
    """Returns the sha256 of the image's inputs, in hex."""
    parts = [hashlib.sha256((_ROOT / name).read_bytes()).hexdigest() for name in _INPUTS]
    return hashlib.sha256("\n".join([*parts, read_platform().python]).encode()).hexdigest()


def is_of_these_inputs(image: Path) -> bool:
    """Whether a folder holds a complete image of the current inputs."""
    stamp = image / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs_digest()


def read_omitted(path: Path) -> list[str]:
    """Returns the lines of docker/omitted_packages.txt or docker/omitted_files.txt that are not comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
