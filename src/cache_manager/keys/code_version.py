"""The version of the code that trains: a hash over the modules that a training imports, and the files they read."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import src.training.train_model

_PACKAGE = "src"
# A run starts here; what counts is every module that can be reached by imports. Other programs and tests decide
# nothing, and under Bazel may be missing.
_ENTRY = ("training/train_model",)
_READ_BY_CODE = (".j2",)


def training_code() -> dict[str, str]:
    """Returns the sha256 of every file that takes part in a training, by its name below src/."""
    folder = Path(src.training.train_model.__file__).parents[1]
    modules = _reachable(folder)
    texts = {path.relative_to(folder).as_posix(): path.read_bytes() for path in modules}
    for path in sorted((folder / "training").rglob("*")):
        if path.suffix in _READ_BY_CODE and any(path.name.encode() in text for text in list(texts.values())):
            texts[path.relative_to(folder).as_posix()] = path.read_bytes()
    return {name: hashlib.sha256(text).hexdigest() for name, text in sorted(texts.items())}


def _reachable(folder: Path) -> set[Path]:
    """Returns the files of the modules that the entry imports, at any depth, at the top or inside a function."""
    waiting, found = [folder / f"{name}.py" for name in _ENTRY], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imported(path):
            module = folder / name.replace(".", "/")
            files = (module.with_name(f"{module.name}.py"), module / "__init__.py")
            waiting += [file for file in files if file.is_file()]
    return found


def _imported(path: Path) -> Iterator[str]:
    """Yields the names, inside the package, of what a module may import."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name.removeprefix(f"{_PACKAGE}.") for name in names if name.startswith(f"{_PACKAGE}."))
