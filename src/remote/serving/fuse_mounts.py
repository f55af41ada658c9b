"""What buildbox-casd mounts by FUSE: whether this user may, and what has stayed mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_TABLE = Path("/proc/self/mounts")


def has_fuse() -> bool:
    """Whether this user may mount by FUSE. Without it each action is given a copy of the image, which takes seconds."""
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and (os.geteuid() == 0 or shutil.which("fusermount3") is not None)


def mounted_below(folder: Path) -> list[Path]:
    """Returns where in a folder something is mounted by FUSE, the deepest first."""
    found = []
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        # The table writes a space as \040, and other characters likewise.
        path = Path(where.encode().decode("unicode_escape").encode("latin-1").decode())
        if kind.startswith("fuse") and path.is_relative_to(folder):
            found.append(path)
    return sorted(found, reverse=True)


def unmount_below(folder: Path) -> None:
    """Takes away what has stayed: an ordinary user's mounts outlive the process that served them."""
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    for path in mounted_below(folder.resolve()):
        subprocess.run([*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
