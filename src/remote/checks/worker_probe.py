"""Runs in a worker's own Python and prints its environment as JSON. Uses the standard library only."""

import json
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

flags: list[str] = []
for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
    if line.startswith("flags"):
        flags = line.partition(":")[2].split()
        break
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
