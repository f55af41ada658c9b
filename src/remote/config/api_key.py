"""Reads the API key from a program's environment.

Bazel writes the environment of its client into its log, which others can read, and into its build events. So
tools/bazel removes NATIVELINK_API_KEY and passes it to the programs of `bazel run` as an open file descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

KEY_VARIABLE = "NATIVELINK_API_KEY"
# The number of the file descriptor; set by tools/bazel.
_DESCRIPTOR_VARIABLE = "NATIVELINK_API_KEY_FD"


def key_of(environment: Mapping[str, str]) -> str:
    """Returns the key of an environment, from the variable or the file descriptor; empty if there is none."""
    if key := environment.get(KEY_VARIABLE, "").strip():
        return key
    number = environment.get(_DESCRIPTOR_VARIABLE, "")
    if not number.isdecimal():
        return ""
    try:
        # No seek: a shell may have made it a pipe.
        with os.fdopen(os.dup(int(number)), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        # Inherited by way of a shell that passed on the variable but not the descriptor.
        return ""
