"""Names of temporary files that say which process owns them, so that leftovers are known without locks."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from pathlib import Path

# Whether a process of another machine or container runs is not known: its files count as abandoned after a day.
_FOREIGN_SECONDS = 24 * 3600.0
_NAME = re.compile(
    r"(?P<host>[a-z0-9-]+)\.(?P<boot>[0-9a-f]+)\.(?P<namespace>\d+)\.(?P<pid>\d+)\.(?P<started>\d+)\.[0-9a-f]+"
)


def unique_name() -> str:
    """Returns a name that no other call, process or machine has: host.boot.PID namespace.PID.start time.random."""
    pid = os.getpid()
    return f"{_host_id()}.{pid}.{_started(pid)}.{uuid.uuid4().hex[:12]}"


def is_abandoned(name: str, path: Path) -> bool:
    """Whether the owner of a name has certainly ended, or is on another machine and wrote nothing for a day.

    Args:
        name: from `unique_name`; any other name has no owner.
        path: the file or folder of that name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return _age(path) > _FOREIGN_SECONDS
    host, boot, namespace = _host_id().split(".")
    if found["host"] != host:
        return _age(path) > _FOREIGN_SECONDS
    if found["boot"] != boot:
        return True
    if found["namespace"] != namespace:
        return _age(path) > _FOREIGN_SECONDS
    started = _started(int(found["pid"]))
    # PIDs are reused: only with the same start time is it the same process.
    return started is None or str(started) != found["started"]


def is_running(pid: int) -> bool:
    """Whether a process has this PID, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _host_id() -> str:
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()) or "unnamed"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")[:12]
        namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        # macOS has neither.
        boot, namespace = "0", "0"
    return f"{host}.{boot}.{namespace}"


def _started(pid: int) -> int | None:
    """Returns a process's start time in ticks since boot (0 where the system does not say); None if it has ended."""
    try:
        # The second field is the program's name in brackets, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return 0 if not Path("/proc/self").exists() and is_running(pid) else None
    except ProcessLookupError:
        return None
    # A zombie has ended.
    return None if fields[0] in "ZX" else int(fields[19])


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
