"""Commands in a mount namespace of their own, which takes their mounts along when it ends."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def mount_namespace(folder: Path) -> list[str]:
    """Returns the command that runs another one where it may mount; skips the test where the system allows none.

    Args:
        folder: an empty one, to try it with.
    """
    if shutil.which("unshare") is None:
        pytest.skip("NOT TESTED: a mount needs unshare (util-linux)")
    command = ["unshare", "--map-root-user", "--mount"]
    probe = subprocess.run(
        [*command, "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"NOT TESTED: a mount is not allowed here ({probe.stderr.strip()})")
    return command
