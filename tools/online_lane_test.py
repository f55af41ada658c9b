"""What only Bazel 8 reads, held against what this project runs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent


def _calls(name: str, file: str = "MODULE.bazel") -> list[dict[str, Any]]:
    """The arguments of the calls of a function in MODULE.bazel."""
    calls = [node for node in ast.walk(ast.parse((_ROOT / file).read_text())) if isinstance(node, ast.Call)]
    return [
        {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        for call in calls
        if ast.unparse(call.func) == name
    ]


def test_inputs_leave_out_what_the_image_leaves_out() -> None:
    lines = (_ROOT / "docker" / "omitted_files.txt").read_text().splitlines()
    omitted = {
        f"site-packages/{line}" + ("" if "*" in line else "/**") for line in lines if line and not line.startswith("#")
    }
    changed = _calls("pip.whl_mods")
    for kind in ("data_exclude_glob", "srcs_exclude_glob"):
        globs = [glob for package in changed for glob in package[kind]]
        assert sorted(globs) == sorted(omitted)
    for package in changed:
        assert all(glob.startswith(f"site-packages/{package['whl_name']}/") for glob in package["data_exclude_glob"])


def test_every_change_of_a_wheel_is_applied() -> None:
    [parse] = _calls("pip.parse")
    packages = {package["whl_name"]: package["hub_name"] for package in _calls("pip.whl_mods")}
    assert parse["whl_modifications"] == {f"@{hub}//:{name}.json": name for name, hub in packages.items()}


def test_every_repository_of_the_hub_is_visible() -> None:
    pinned = [call["name"] for rule in ("hub_model", "hub_dataset") for call in _calls(rule, "src/models/hub.bzl")]
    names = ", ".join(f'"{name}"' for name in pinned)
    assert f"use_repo(hub, {names})\n" in (_ROOT / "MODULE.bazel").read_text()
