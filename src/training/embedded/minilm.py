"""all-MiniLM-L6-v2 (Apache-2.0) in an installed PyPI package, found without importing that package."""

import functools
import importlib.util
from pathlib import Path

from src.training.embedded import pins


def minilm_folder() -> Path:
    """Folder of the model's files within the installed package.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(pins.MINILM_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / pins.MINILM_FOLDER
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"The Python package {pins.MINILM_PACKAGE}, which carries all-MiniLM-L6-v2, is not installed: run ./setup.sh; "
        "under Bazel with --config=remote, which leaves it out, give --define=minilm=with too."
    )


@functools.cache
def checked_minilm_folder() -> Path:
    """As `minilm_folder`, after the files were compared with their pins (PinMismatchError); once a process."""
    folder = minilm_folder()
    pins.check_folder(folder, pins.MINILM)
    return folder
