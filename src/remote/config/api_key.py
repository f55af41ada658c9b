"""The API key that a program gets from its environment.

Bazel writes the environment of its client into its log, which others can read, and into its build events. So
tools/bazel takes NATIVELINK_API_KEY away, and hands it to the programs of `bazel run` as an open file instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

KEY_VARIABLE = "NATIVELINK_API_KEY"
# Holds the number of the open file. tools/bazel sets it.
_FILE_VARIABLE = "NATIVELINK_API_KEY_FD"


def key_of(environment: Mapping[str, str]) -> str:
    """Returns the key that an environment holds or leads to; empty where there is none."""
    if key := environment.get(KEY_VARIABLE, "").strip():
        return key
    number = environment.get(_FILE_VARIABLE, "")
    if not number.isdecimal():
        return ""
    try:
        # From its beginning, where the file has one: a shell may have made it a pipe.
        with os.fdopen(os.dup(int(number)), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        # Of another process: a shell that `bazel run` has started passed the variable on, and not the file.
        return ""
