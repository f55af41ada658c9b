"""Hides the installed packages that a target does not declare; for the air-gapped lane.

There all packages are in one environment, where an import without its dep would succeed and then fail in the online
lane. Python runs this file at start-up, because its folder is on PYTHONPATH (python_rules.bzl), in child processes too.
What is declared is in the runfiles: a file pypi/PACKAGE/declared.txt (host_pypi.bzl) for each of the target's packages.
"""

from __future__ import annotations

import re
import site
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every Python starts with this file
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution, DistributionFinder
    from types import ModuleType


class DeclaredPackages:
    """Takes PathFinder's place in sys.meta_path: finds what it finds, but for undeclared packages."""

    def __init__(self, declared: Iterable[str], *, installed_in: Iterable[str]) -> None:
        """Takes the lines of declared.txt, `PIN MODULE...` each, and the folders of installed packages."""
        words = [line.split() for line in declared]
        self._packages = {_canonical(pin.partition("==")[0]) for pin, *_ in words}
        self._modules = {module for _, *modules in words for module in modules}
        self._folders = {Path(folder).resolve() for folder in installed_in}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As PathFinder.find_spec."""
        found = PathFinder.find_spec(fullname, path, target)
        is_top = found is not None and "." not in fullname
        return None if is_top and fullname not in self._modules and self._is_installed(found) else found

    def _is_installed(self, found: ModuleSpec | None) -> bool:
        """Tells whether it lies in a folder of installed packages, and not in one that a package put on sys.path."""
        if found is None:
            return False
        places = found.submodule_search_locations or [found.origin or ""]
        return any(Path(place).parent.resolve() in self._folders for place in places)

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """As PathFinder.find_distributions: what importlib.metadata knows."""
        for distribution in PathFinder.find_distributions(context):
            if _canonical(distribution.metadata["Name"]) in self._packages:
                yield distribution

    def invalidate_caches(self) -> None:
        """As PathFinder.invalidate_caches."""
        PathFinder.invalidate_caches()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def install(runfiles: Path) -> None:
    """Hides what the target with these runfiles does not declare."""
    declared = [line for file in runfiles.glob("pypi/*/declared.txt") for line in file.read_text().splitlines()]
    finder = DeclaredPackages(declared, installed_in=[*site.getsitepackages(), site.getusersitepackages()])
    sys.meta_path[:] = [finder if known is PathFinder else known for known in sys.meta_path]


if __name__ == "sitecustomize":
    # RUNFILES/WORKSPACE/tools/airgap/declared_only/sitecustomize.py
    install(Path(__file__).parents[4])
