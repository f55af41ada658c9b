"""Whether other processes of this machine are still there."""

from __future__ import annotations

import os


def is_running(process: int) -> bool:
    """Whether a process has a number, whoever's it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
