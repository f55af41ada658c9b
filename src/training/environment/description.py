"""Where a run ran: versions, processor and memory, for metrics.json."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy", "safetensors")


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
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


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
