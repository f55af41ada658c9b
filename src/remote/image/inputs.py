"""What the executor's image is made of, beside the programs that make it: another digest, another image."""

from __future__ import annotations

import hashlib
from pathlib import Path

from src.remote.config.execution_platform import read_platform

_ROOT = Path(__file__).parents[3]
_INPUTS = (
    *("bazel_requirements_lock.txt", "docker/install_system.sh"),
    *("docker/omitted_packages.txt", "docker/omitted_files.txt"),
    *("src/remote/image/debian_lock.txt", "src/remote/image/rootfs.py", "src/remote/image/oci_layout.py"),
)
# Beside the image, of what it was made.
STAMP = "inputs.txt"


def inputs_digest() -> str:
    """Returns the hash of all that the image is made of, in hex."""
    parts = [hashlib.sha256((_ROOT / name).read_bytes()).hexdigest() for name in _INPUTS]
    return hashlib.sha256("\n".join([*parts, read_platform().python]).encode()).hexdigest()


def is_of_these_inputs(image: Path) -> bool:
    """Whether the image in a folder is there, whole, and made of what stands here now."""
    stamp = image / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs_digest()
