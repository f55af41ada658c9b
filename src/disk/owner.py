"""Names for temporary files that tell whose they are, so that what a killed process left is known without locks."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from pathlib import Path

# Where a process cannot be asked for (another machine or container), its files count as left behind after a day.
_FOREIGN_SECONDS = 24 * 3600.0
_NAME = re.compile(
    r"(?P<host>[a-z0-9-]+)\.(?P<boot>[0-9a-f]+)\.(?P<space>\d+)\.(?P<pid>\d+)\.(?P<started>\d+)\.[0-9a-f]+"
)


def unique_name() -> str:
    """Returns a name that no other process, machine or call has: host, boot, process namespace, process, number."""
    pid = os.getpid()
    return f"{_place()}.{pid}.{_started(pid)}.{uuid.uuid4().hex[:12]}"


def is_abandoned(name: str, path: Path) -> bool:
    """Whether the process that made a name is gone for sure, or cannot be asked for and silent for a day.

    Args:
        name: out of `unique_name`; any other name belongs to nobody.
        path: the file or folder that bears it.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return _age(path) > _FOREIGN_SECONDS
    host, boot, space = _place().split(".")
    if found["host"] != host:
        return _age(path) > _FOREIGN_SECONDS
    if found["boot"] != boot:
        return True
    if found["space"] != space:
        return _age(path) > _FOREIGN_SECONDS
    started = _started(int(found["pid"]))
    # A process number is given out again: only with the same start is it the same process.
    return started is None or str(started) != found["started"]


def is_running(process: int) -> bool:
    """Whether a process has a number, whoever's it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _place() -> str:
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()) or "unnamed"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")[:12]
        space = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        # macOS has neither.
        boot, space = "0", "0"
    return f"{host}.{boot}.{space}"


def _started(pid: int) -> int | None:
    """Returns when a process started, in ticks since boot (0 where the system does not tell); None if it is gone."""
    try:
        # The second field is the program's name in brackets, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return 0 if not Path("/proc/self").exists() and is_running(pid) else None
    except ProcessLookupError:
        return None
    # A zombie runs no more.
    return None if fields[0] in "ZX" else int(fields[19])


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
