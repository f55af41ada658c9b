"""A name says who owns it, also after its owner ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from src.disk.owner import is_abandoned, unique_name


def test_one_s_own_names_differ_and_are_not_abandoned(tmp_path: Path) -> None:
    assert unique_name() != unique_name()
    assert not is_abandoned(unique_name(), tmp_path)


def test_the_names_of_an_ended_process_are(tmp_path: Path) -> None:
    code = "from src.disk.owner import unique_name; print(unique_name())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    name = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()
    assert is_abandoned(name, tmp_path)


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    parts = unique_name().split(".")
    parts[4] = str(int(parts[4]) + 1)
    assert is_abandoned(".".join(parts), tmp_path)


def test_another_boot_of_this_machine_is_over(tmp_path: Path) -> None:
    parts = unique_name().split(".")
    parts[1] = "0123456789ab"
    assert is_abandoned(".".join(parts), tmp_path)


def test_another_machine_is_given_a_day(tmp_path: Path) -> None:
    name = "elsewhere." + unique_name().partition(".")[2]
    assert not is_abandoned(name, tmp_path)
    old = time.time() - 25 * 3600
    os.utime(tmp_path, (old, old))
    assert is_abandoned(name, tmp_path)
