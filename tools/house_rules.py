"""The rules of this repository that no other linter knows; run by tools/check.

Files named for what is in them, no registry's host name, no path of one machine, no test named in docs that is gone; in
src/training no operation whose bits depend on the CPU's maker.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# A mirror is set where the tools look for it (pip's, npm's and apt's own configuration), never in this repository.
_REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|yarnpkg|deb[.]debian|crates|docker|ghcr|quay)[.](?:org|com|io)\b")
_MACHINE_PATH = re.compile(r"(?<![\w.~}/-])/(?:work|root)\b(?!\w)")
# As pytest is called for one.
_NAMED_TEST = re.compile(r"`([\w/]+_test\.py)::(\w+)`")

# What has other bits on another maker's CPU, of 266 operations that were compared (docs/bits.md): MKL's vector
# functions refine the CPU's approximations, and torch's optimizers call them unless they are fused. numpy's and math's
# are exact or the same everywhere.
_UNLIKE_OPERATIONS = {"sqrt", "acos", "arccos", "asin", "arcsin", "atan", "arctan", "log10", "tan", "logit"}
_UNLIKE_UNLESS_FUSED = {"Adam", "AdamW", "Adagrad", "RMSprop", "adam", "adamw", "adagrad", "rmsprop"}
_SAME_EVERYWHERE = {"np", "numpy", "math"}


def files() -> list[Path]:
    """Returns what git tracks, and what is new and not ignored, without the lock file."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in sorted(set(names)) if name and not name.endswith("_lock.txt")]
    return [path for path in paths if path.is_file()]


def findings(name: str, text: str) -> Iterator[str]:
    """Yields a sentence for each rule that a file breaks."""
    if Path(name).stem.lower() in VAGUE_NAMES:
        yield f"{name}: name the file for what is in it"
    for number, line in enumerate(text.splitlines(), start=1):
        if _REGISTRY.search(line):
            yield f"{name}:{number}: names the host of a package registry"
        if _MACHINE_PATH.search(line):
            yield f"{name}:{number}: holds a path of one machine"
    if name.endswith(".md"):
        for file, test in _NAMED_TEST.findall(text):
            path = ROOT / file
            if not path.is_file() or f"\ndef {test}(" not in path.read_text(encoding="utf-8"):
                yield f"{name}: names the test {file}::{test}, which does not exist"
    if name.startswith("src/training/") and name.endswith(".py") and not name.endswith("_test.py"):
        yield from (f"{name}:{number}: {sentence}" for number, sentence in unlike_operations(ast.parse(text)))


def unlike_operations(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields line and sentence of each operation of torch whose bits depend on the CPU's maker."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _is_half(node.right):
            yield node.lineno, _unlike("** 0.5", "math.sqrt or exact_sqrt()")
        if not isinstance(node, ast.Call):
            continue
        module, called = _called(node.func)
        if called in _UNLIKE_UNLESS_FUSED and not _is_fused(node):
            yield node.lineno, _unlike(f"{called}() without fused=True", "fused=True")
        elif module is None or module in _SAME_EVERYWHERE:
            continue
        elif called.removesuffix("_") in _UNLIKE_OPERATIONS:
            yield node.lineno, _unlike(f"{called}() of a tensor", "numpy's on its array, as exact_sqrt() does")
        elif called.removesuffix("_") == "pow" and any(map(_is_half, node.args)):
            yield node.lineno, _unlike("pow(..., 0.5) of a tensor", "exact_sqrt()")


def _called(function: ast.expr) -> tuple[str | None, str]:
    """Returns what a function is an attribute of, None if of nothing, and its own name."""
    if isinstance(function, ast.Attribute):
        return ast.unparse(function.value), function.attr
    return None, function.id if isinstance(function, ast.Name) else ""


def _is_half(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0.5


def _is_fused(call: ast.Call) -> bool:
    return any(keyword.arg == "fused" and ast.unparse(keyword.value) == "True" for keyword in call.keywords)


def _unlike(operation: str, instead: str) -> str:
    return (
        f"{operation} has other bits on another maker's CPU, as MKL refines approximations that each maker makes "
        f"otherwise (docs/bits.md): use {instead}"
    )


def main() -> int:
    """Entry point; returns the exit code."""
    found: list[str] = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file
        found += findings(path.relative_to(ROOT).as_posix(), text)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
