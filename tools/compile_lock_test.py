"""Tests of compile_lock.py, without a package index."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools import compile_lock

_HASH = f" \\\n    --hash=sha256:{'0' * 64}\n"
LOCK = f"numpy==2.0{_HASH}    # via torch\ntorch==2.13.0{_HASH}    # via -r requirements.in\n"


def test_the_second_lock_holds_torch_and_what_the_first_does_not() -> None:
    cuda = f"nvidia-cublas==13 ; sys_platform == 'linux'{_HASH}"
    compiled = f"{cuda}numpy==2.0{_HASH}torch==2.13.0{_HASH}triton==3{_HASH}"
    assert compile_lock.beside(LOCK, compiled) == f"{cuda}torch==2.13.0{_HASH}"


def test_the_locks_in_the_repository_hold_one_torch_and_share_nothing_else() -> None:
    locks = [path.read_text() for path in (compile_lock.LOCK, compile_lock.CUDA_LOCK)]
    first, second = (set(re.findall(r"^([a-z0-9][^ \\]*)", lock, re.MULTILINE)) for lock in locks)
    assert [pin.partition("==")[0] for pin in first & second] == ["torch"]
    assert {name.partition("==")[0] for name in first} & {name.partition("==")[0] for name in second} == {"torch"}


def wheel(name: str, size: int | None) -> dict[str, Any]:
    return {"url": f"https://host/{name}.whl", "size": size}


def test_the_download_is_the_wheels_of_one_python_and_platform() -> None:
    torch = {
        "cp312-cp312-manylinux_2_28_x86_64": 1,
        "cp313-cp313-win_amd64": 2,
        "cp313-cp313-manylinux_2_28_x86_64": 500,
    }
    cublas = {"py3-none-manylinux_2_17_aarch64": 9, "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64": 40}
    packages = [torch, cublas, {"py2.py3-none-any": 2}]
    pylock = {
        "packages": [{"name": "a", "wheels": [wheel(f"a-1-{tag}", tags[tag]) for tag in tags]} for tags in packages]
    }
    assert compile_lock.linux_bytes(pylock) == 542


def test_an_index_without_sizes_is_refused() -> None:
    with pytest.raises(SystemExit, match="names no size of torch"):
        compile_lock.linux_bytes({"packages": [{"name": "torch", "wheels": [wheel("torch-2-py3-none-any", None)]}]})
