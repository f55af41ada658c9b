"""JSON files that anybody may have put there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src.disk.durable import open_regular

# The largest of ours, a tokenizer's, is below 20 MB.
_MAX_BYTES = 256 << 20


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        OSError: it cannot be read, or is not a regular file: a FIFO would block for ever.
        ValueError: it is not JSON, is too large, or is nested too deeply.
    """
    with open_regular(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES:,} bytes")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
