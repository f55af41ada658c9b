"""JSON files that anybody may have put there."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

# The largest of ours, a tokenizer's, is below 20 MB.
_MAX_BYTES = 256 << 20


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        OSError: it cannot be read, or is not a regular file: a FIFO would block for ever.
        ValueError: it is not JSON, is too large, or is nested too deeply.
    """
    # Not after a look at what is there: it may be replaced in between.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES:,} bytes")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
