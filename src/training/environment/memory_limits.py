"""How much memory this process may still take: of the machine, of its control group, of its own limit."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_memory() -> int:
    """Returns bytes: the minimum of what the machine has left, swap included, and what each limit leaves."""
    machine = psutil.virtual_memory().available + psutil.swap_memory().free
    return max(0, min([machine, *_group_limits(_OWN_CGROUP, root=_CGROUPS), *_process_limit()]))


def _group_limits(own: Path, *, root: Path) -> list[int]:
    """Returns what each control group (version 2) above this process leaves, in bytes.

    Args:
        own: the file that names this process's group.
        root: where the groups are mounted.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    # Version 2 is hierarchy 0; in a container its path may be that of the host, which is not mounted.
    path = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    folder = root / path
    groups = [folder, *folder.parents] if folder.is_dir() else [root]
    limits = [_group_limit(group) for group in groups if group == root or root in group.parents]
    return [limit for limit in limits if limit is not None]


def _group_limit(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    # The page cache counts as used, and is reclaimed when it is needed.
    cached = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))
    return int(limit) - (used - cached)


def _process_limit() -> list[int]:
    """Returns what RLIMIT_AS (ulimit -v), which batch systems set, leaves of the address space."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit - psutil.Process().memory_info().vms]
