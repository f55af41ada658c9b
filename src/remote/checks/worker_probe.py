"""Runs in a worker's own Python and prints its environment as JSON. Uses the standard library only."""

import json
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

cpu_info = Path("/proc/cpuinfo")
# A sandbox may have no /proc.
lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
print(
    json.dumps(
        {
            "python": platform.python_version(),
            "executable": sys.executable,
            "packages": {each.name.lower().replace("_", "-"): each.version for each in metadata.distributions()},
            "programs": {name: shutil.which(name) is not None for name in ("bash", "zip", "file")},
            "cpu_flags": flags,
        }
    )
)
