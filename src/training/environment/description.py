"""Where a run ran: versions, processor and memory, for metrics.json."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy", "safetensors")
_CPUINFO = Path("/proc/cpuinfo")


def describe_environment() -> dict[str, object]:
    """Returns versions and the processor's name. Loads torch."""
    import torch

    return {
        "cpu": cpu_name(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        # torch's own word names the build: 2.13.0+cpu, or 2.13.0+cu130, which is 2.13.0 to its package.
        "versions": {name: version(name) for name in _PACKAGES} | {"torch": str(torch.__version__)},
    }


def cpu_name() -> str:
    """Returns what the processor calls itself."""
    try:
        return cpu_fields().get("model name", "unknown")
    except OSError:
        return platform.processor()


def cpu_fields() -> dict[str, str]:
    """Returns what the kernel says of the first processor, by its own names.

    Raises:
        OSError: it says nothing: this is no Linux.
    """
    first = _CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def peak_rss_bytes(*, children: int = 0) -> int:
    """Returns the peak memory of this process and its children, in bytes.

    An upper bound where there are children: each child counts as the largest one, peaks of different times are added
    up, and shared memory counts once per process.

    Args:
        children: processes that this one has started, which have ended.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if children:
        peak += children * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024
