"""The arrows between rooms: a file imports its own room and lower lines of layers.bzl, and there is no circle.

And the doors: what one module alone may call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parent
# Rooms that only tests import: their own imports and those of tests go anywhere.
FOR_TESTS = {"bits", "testing", "end_to_end"}
# A program that fills a cache with the entries that tests use.
BENCHMARK = "src.cache_manager.benchmark"
# What it pins keeps transformers from running the code of a model's folder.
LOADER = "src.training.model.pretrained"


def layers() -> list[list[str]]:
    [assignment] = [node for node in ast.parse((SRC / "layers.bzl").read_text()).body if isinstance(node, ast.Assign)]
    table: list[list[str]] = ast.literal_eval(assignment.value)
    return table


def modules() -> dict[str, Path]:
    """Returns every module of src by its dotted name."""
    found = (path for path in SRC.rglob("*.py") if "__pycache__" not in path.parts)
    return {".".join(path.relative_to(SRC.parent).with_suffix("").parts): path for path in found}


def walk(tree: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """Yields all nodes of a module; `types`: also what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from walk(node, types=types)


def imports(path: Path, known: Mapping[str, Path], *, types: bool = True) -> set[str]:
    """Returns the modules that a file imports, at the top or in a function."""
    found = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), types=types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & known.keys()


def place(module: str, table: list[list[str]]) -> tuple[int, str]:
    """Returns the line that a module stands in, and its name there."""
    package, _, name = module.replace(".", "/").rpartition("/")
    for entry in (f"{package}:{name}", package):
        for line, entries in enumerate(table):
            if entry in entries:
                return line, entry
    raise KeyError(f"{module}: give its room a line in src/layers.bzl")


def is_for_tests(module: str) -> bool:
    return module.endswith("_test") or bool(FOR_TESTS & set(module.split(".")))


def loads_models(path: Path) -> bool:
    """Whether a file loads or builds a model by transformers' own means."""
    names = ("from_pretrained", "from_config")
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.Constant) and node.value in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "transformers" and "pipeline" in ast.unparse(node))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def against_the_layers(graph: Mapping[str, set[str]], table: list[list[str]]) -> Iterator[str]:
    for module, imported in graph.items():
        line, own = place(module, table)
        for other in imported:
            lower, room = place(other, table)
            if room != own and lower >= line:
                yield f"{module} -> {other}"


def test_files_import_their_own_room_and_lower_ones() -> None:
    known = modules()
    graph = {name: imports(path, known) for name, path in known.items() if not is_for_tests(name)}
    assert len(graph) > 150, "the sources are not there"
    assert list(against_the_layers(graph, layers())) == []


def test_nothing_but_tests_imports_what_is_for_tests() -> None:
    known = modules()
    assert not [
        f"{name} -> {other}"
        for name, path in known.items()
        if not is_for_tests(name) and name != BENCHMARK
        for other in imports(path, known)
        if is_for_tests(other)
    ]


def test_one_module_loads_models() -> None:
    assert [name for name, path in modules().items() if not is_for_tests(name) and loads_models(path)] == [LOADER]


def test_there_is_no_circle() -> None:
    known = modules()
    graph = {name: imports(path, known, types=False) - {name} for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "imported", "is_against"),
    [
        ("src.training.data.rows", "src.training.recipes.recipe", False),
        ("src.training.data.rows", "src.training.data.tables", False),
        ("src.training.data.rows", "src.training.engine.trainer", True),
        ("src.training.model.inputs", "src.training.fused.layers", True),
        ("src.training.train_model", "src.cache_manager.cache_manager", True),
        ("src.cache_manager.cached_train", "src.cache_manager.demo", True),
        ("src.cache_manager.demo", "src.cache_manager.cached_train", False),
        ("src.disk.durable", "src.cli.errors", False),
        ("src.cli.errors", "src.disk.durable", True),
    ],
)
def test_an_arrow_goes_down_or_stays_in_the_room(module: str, imported: str, is_against: bool) -> None:
    assert bool(list(against_the_layers({module: {imported}}, layers()))) is is_against
