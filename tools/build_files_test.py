"""What a source needs at run time is found wherever it is named, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.build_files import Labels, wanted

LOCK = "numpy==2.0\npyyaml==6.0\nscikit-learn==1.0\n"
BUILD = """\
py_modules(
    data = {"mine": ["notes.txt"]},
    tests = {"medium": {"mine_test": []}},
)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one room below src/, and a module in another."""
    (tmp_path / "bazel_requirements_lock.txt").write_text(LOCK)
    for name in ("other/shared.py", "room/near.py", "room/mine.py"):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "deps"),
    [
        ("import numpy as np, os", ["@pypi//numpy"]),
        ("from yaml import load", ["@pypi//pyyaml"]),
        ("from src.room import near", [":near"]),
        ("from src.other.shared import a", ["//src/other:shared"]),
        ("def late():\n    from src.room.near import a", [":near"]),
        ("PROGRAM = '''\nimport numpy\nfrom src.room.near import a\n'''", [":near", "@pypi//numpy"]),
        ("program = f'import sys; import numpy; sys.exit({1})'", ["@pypi//numpy"]),
        ("command = ['-m', 'src.other.shared']", ["//src/other:shared"]),
        (
            "from importlib.metadata import version\nNAMES = ('numpy', 'scikit-learn')",
            ["@pypi//numpy", "@pypi//scikit_learn"],
        ),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy", []),
        ("TEXT = 'import of goods from numpy'", []),
        ("from src.room import mine", []),
    ],
)
def test_imports_become_labels(root: Path, source: str, deps: list[str]) -> None:
    (root / "src/room/mine.py").write_text(source)
    assert Labels(root).deps(root / "src/room/mine.py") == deps


def test_what_is_written_by_hand_stays_and_the_rest_follows_the_sources(root: Path) -> None:
    room = root / "src/room"
    (room / "BUILD").write_text(BUILD)
    (room / "mine.py").write_text("from src.room import near\nimport numpy")
    (room / "start.py").write_text('if __name__ == "__main__":\n    pass')
    (room / "mine_test.py").write_text("import pytest\nfrom src.room.mine import a")
    (room / "near_test.py").write_text("from src.room.near import a")
    text = wanted(room / "BUILD", Labels(root))
    assert (
        text
        == """\
py_modules(
    data = {"mine": ["notes.txt"]},
    modules = {
        "mine": [
            ":near",
            "@pypi//numpy",
        ],
        "near": [],
    },
    programs = {
        "start": [],
    },
    tests = {
        "small": {
            "near_test": [":near"],
        },
        "medium": {
            "mine_test": [":mine"],
        },
    },
)
"""
    )
    (room / "BUILD").write_text(text)
    assert wanted(room / "BUILD", Labels(root)) == text
