"""Writes the deps in BUILD files out of what the sources import; run by tools/check.

.venv/bin/python tools/build_files.py          exit 1 if a BUILD file differs from the imports
.venv/bin/python tools/build_files.py --write  writes what differs

Only py_modules() of //tools:python.bzl is written: `modules`, `programs` and the deps of `tests`. A new file becomes a
module, a program (it has `if __name__ == "__main__"`) or a small test; the size of a test that is listed stays.
Seen are imports at any depth, programs in strings (`python -c`), module names in strings (`python -m`) and the packages
whose version `importlib.metadata` is asked for.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LOCK = "bazel_requirements_lock.txt"
_MACRO = "py_modules"
_WRITTEN = ("modules", "programs", "tests")
_SIZES = ("small", "medium", "large", "enormous")
# Packages that are imported under another name than they are installed by.
_PACKAGES = {
    "dotenv": "python_dotenv",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_tools": "grpcio_tools",
    "yaml": "pyyaml",
}
_MODULE_NAME = re.compile(r"src(?:\.\w+)+")
_IMPORT = re.compile(r"^\s*(?:from|import) \w", re.MULTILINE)


def imported(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted name of everything that a module's code may import, and `@NAME` of packages it asks about."""
    for node in _runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # What is imported from a package may be a module of it.
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            yield from _named_in_text(_text(node))
    yield from _distributions(tree)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walks over the code but for blocks that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        # The parts of an f-string make one text.
        if not isinstance(node, ast.JoinedStr):
            yield from _runtime_nodes(node)


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "0" for part in node.values)
    return node.value if isinstance(node.value, str) else ""


def _named_in_text(text: str) -> Iterator[str]:
    if _MODULE_NAME.fullmatch(text):
        yield text
    elif _IMPORT.search(text) or "; import " in text or "; from " in text:
        try:
            program = ast.parse(text)
        except SyntaxError:
            return
        yield from imported(program)


def _distributions(tree: ast.AST) -> Iterator[str]:
    """Yields `@NAME` for each distribution that importlib.metadata may be asked for."""
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if "importlib.metadata" not in modules:
        return
    # The names may stand in a tuple that a loop goes over: every string that is one counts.
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"@{node.value}"


class Labels:
    """Turns what is imported into labels."""

    def __init__(self, root: Path) -> None:
        self._root = root
        lock = (root / _LOCK).read_text(encoding="utf-8")
        self._locked = {_normalised(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}

    def deps(self, source: Path) -> list[str]:
        """Returns the labels of what a source file imports, sorted as buildifier does."""
        package = source.parent.relative_to(self._root)
        found = {self._label(name, package) for name in imported(ast.parse(source.read_bytes()))}
        # pytest_test() adds pytest itself.
        left_out = (None, f":{source.stem}", "@pypi//pytest")
        return sorted((label for label in found if label not in left_out), key=_order)

    def _label(self, name: str, package: Path) -> str | None:
        if name.startswith("@"):
            package_name = _normalised(name[1:])
            return f"@pypi//{package_name}" if package_name in self._locked else None
        top = name.partition(".")[0]
        if top in ("src", "tools"):
            return self._own_label(name, package)
        package_name = _PACKAGES.get(top, _normalised(top))
        return f"@pypi//{package_name}" if package_name in self._locked else None

    def _own_label(self, name: str, package: Path) -> str | None:
        path = Path(*name.split("."))
        if not (self._root / path).with_suffix(".py").is_file():
            return None
        return f":{path.name}" if path.parent == package else f"//{path.parent.as_posix()}:{path.name}"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _order(label: str) -> tuple[int, str]:
    return ((":", "/", "@").index(label[0]), label.replace(":", "!"))


def wanted(build: Path, labels: Labels) -> str:
    """Returns what a BUILD file should hold. One without a call of the macro is left as it is."""
    text = build.read_text(encoding="utf-8")
    call = next((node for node in ast.walk(ast.parse(text)) if _is_macro(node)), None)
    if not isinstance(call, ast.Call):
        return text
    lines = text.splitlines(keepends=True)
    arguments = {str(keyword.arg): keyword for keyword in call.keywords}
    parts = {
        name: "".join(lines[keyword.lineno - 1 : keyword.end_lineno]).rstrip().rstrip(",") + ",\n"
        for name, keyword in arguments.items()
        if name not in _WRITTEN
    }
    parts |= _tables(build.parent, labels, sizes=_sizes(arguments.get("tests")))
    # As buildifier orders them.
    body = (parts[name] for name in sorted(parts, key=lambda name: (name != "testonly", name)))
    return "".join([*lines[: call.lineno - 1], f"{_MACRO}(\n", *body, ")\n", *lines[call.end_lineno or 0 :]])


def _is_macro(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _MACRO


def _sizes(tests: ast.keyword | None) -> dict[str, str]:
    """Returns the size of each test that is listed."""
    table = {} if tests is None else ast.literal_eval(tests.value)
    return {name: size for size, names in table.items() for name in names}


def _tables(folder: Path, labels: Labels, *, sizes: dict[str, str]) -> dict[str, str]:
    """Returns the arguments that are written, by name."""
    sources = sorted(folder.glob("*.py"))
    tests = [path for path in sources if path.stem.endswith("_test")]
    programs = [path for path in sources if path not in tests and 'if __name__ == "__main__":' in path.read_text()]
    modules = [path for path in sources if path not in (*tests, *programs)]
    by_size = {size: [path for path in tests if sizes.get(path.stem, "small") == size] for size in _SIZES}
    rows_by_size = {size: _rows(paths, labels, indent=12) for size, paths in by_size.items() if paths}
    tables = {
        "modules": _rows(modules, labels, indent=8),
        "programs": _rows(programs, labels, indent=8),
        "tests": "".join(f'        "{size}": {{\n{rows}        }},\n' for size, rows in rows_by_size.items()),
    }
    return {name: f"    {name} = {{\n{rows}    }},\n" for name, rows in tables.items() if rows}


def _rows(paths: Iterable[Path], labels: Labels, *, indent: int) -> str:
    return "".join(_row(path.stem, labels.deps(path), indent=indent) for path in paths)


def _row(name: str, deps: list[str], *, indent: int) -> str:
    """Returns an entry as buildifier formats it."""
    margin = " " * indent
    if len(deps) < 2:
        return f'{margin}"{name}": [{"".join(map(_quoted, deps))}],\n'
    return f'{margin}"{name}": [\n' + "".join(f"{margin}    {_quoted(dep)},\n" for dep in deps) + f"{margin}],\n"


def _quoted(label: str) -> str:
    return f'"{label}"'


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    labels, differing = Labels(ROOT), []
    for build in sorted((ROOT / "src").rglob("BUILD")):
        text = wanted(build, labels)
        if text != build.read_text(encoding="utf-8"):
            differing.append(build.relative_to(ROOT).as_posix())
            if arguments == ["--write"]:
                build.write_text(text, encoding="utf-8")
    if differing and arguments != ["--write"]:
        print(f"not in step with the imports: {', '.join(differing)}; run: tools/check --fix")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
