"""The file that an export is to write, checked before the export begins."""

from __future__ import annotations

import os
from pathlib import Path

from src.cli.errors import RequestError
from src.cli.working_folder import working_folder


def output_file(name: str | None, *, suffix: str) -> Path:
    """Returns the path of --output.

    Args:
        name: as given.
        suffix: that the file must have, such as .onnx.

    Raises:
        RequestError: it is missing, has another suffix, is a folder, or cannot be written.
    """
    if not name:
        raise RequestError(f"--output is missing: name the file to write, such as model{suffix}")
    output = working_folder() / Path(name).expanduser()
    if output.suffix != suffix:
        raise RequestError(f"--output must end in {suffix}, not {name!r}")
    if output.is_dir():
        raise RequestError(f"--output {output} is a folder: name a file")
    existing = next(parent for parent in output.parents if parent.exists())
    if not existing.is_dir():
        raise RequestError(f"--output {output} cannot be written: {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise RequestError(f"--output {output} cannot be written: {existing} allows no new files")
    return output
