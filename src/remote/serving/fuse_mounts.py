"""FUSE mounts of buildbox-casd: whether this user may mount, and which mounts were left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_TABLE = Path("/proc/self/mounts")


def has_fuse() -> bool:
    """Whether this user may mount with FUSE. Without it each action gets a copy of the image, which takes seconds."""
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and (os.geteuid() == 0 or shutil.which("fusermount3") is not None)


def mounted_below(folder: Path) -> list[Path]:
    """Returns the FUSE mount points below a folder, deepest first."""
    mount_points = []
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        _, mount_point, kind, *_ = line.split()
        # The table writes a space as \040 and escapes other characters likewise.
        path = Path(mount_point.encode().decode("unicode_escape").encode("latin-1").decode())
        if kind.startswith("fuse") and path.is_relative_to(folder):
            mount_points.append(path)
    return sorted(mount_points, reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmounts what was left behind: an ordinary user's mounts outlive the process that served them."""
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    for path in mounted_below(folder.resolve()):
        subprocess.run([*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
