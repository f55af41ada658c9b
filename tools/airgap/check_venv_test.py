"""Tests of check_venv.py."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from tools.airgap import check_venv

LOCK = """\
# a comment==1
Torch==2.13.0 \\
    --hash=sha256:00
    # via -r requirements.in
httpx[http2]==0.28.0 \\
    --hash=sha256:00
a.b-c==1 ; sys_platform != 'emscripten' and python_full_version >= '3.11' \\
    --hash=sha256:00
colorama==0.4.6 ; sys_platform == 'emscripten' \\
    --hash=sha256:00
"""


def test_pins_are_those_of_this_platform() -> None:
    assert check_venv.locked_pins(LOCK) == {"torch": "2.13.0", "httpx": "0.28.0", "a_b_c": "1"}


def test_a_local_version_satisfies_its_pin() -> None:
    assert check_venv.differences({"torch": "2.13.0"}, {"torch": "2.13.0+cpu"}) == []


def test_every_difference_is_named() -> None:
    wrong = check_venv.differences({"numpy": "2.0", "regex": "1", "rich": "3"}, {"numpy": "2.0.1", "rich": "3"})
    assert wrong == ["numpy is 2.0.1 and not 2.0", "regex is missing"]


def test_closure_is_transitive_and_ends_in_a_cycle() -> None:
    needs = {"a": {"b", "absent"}, "b": {"a", "c"}, "c": set(), "d": set()}
    assert check_venv.closure("a", needs, dict.fromkeys(needs, "1")) == ["a", "b", "c"]


def test_modules_are_what_can_be_imported() -> None:
    folders = ("yaml/__init__.py", "_yaml/__init__.py", "PyYAML-6.dist-info/RECORD", "numpy.libs/libopenblas.so")
    files = ("py.py", "x__mypyc.cpython-311.so", "setuptools.pth", "../../../bin/pip")
    assert check_venv.modules(map(PurePath, (*folders, *files))) == ["_yaml", "py", "x__mypyc", "yaml"]


def test_the_environment_differs_from_locks_that_ask_for_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, cuda_lock = tmp_path / "lock.txt", tmp_path / "cuda_lock.txt"
    lock.write_text("no-such-package==1 \\\n")
    cuda_lock.write_text("nvidia-nothing==1 \\\n")
    monkeypatch.setattr(check_venv, "installed", lambda: ({"torch": "2.13.0+cpu"}, {"torch": set()}, {"torch": []}))
    assert check_venv.main([str(lock), str(cuda_lock)]) == 1
    assert capsys.readouterr().err == "no_such_package is missing\n"
    monkeypatch.setattr(check_venv, "installed", lambda: ({"torch": "2.13.0"}, {"torch": set()}, {"torch": []}))
    assert check_venv.main([str(lock), str(cuda_lock)]) == 1
    assert capsys.readouterr().err == "no_such_package is missing, nvidia_nothing is missing\n"


def test_the_stamp_sees_a_new_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    before = check_venv.stamp()
    (tmp_path / "x-1.dist-info").mkdir()
    assert check_venv.stamp() != before
