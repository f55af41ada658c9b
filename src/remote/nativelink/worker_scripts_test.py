"""The scripts of a worker: it finishes its action before it stops. A shell script stands in for NativeLink."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.remote.config.execution_platform import read_platform

SCRIPTS = Path(__file__).parents[3] / "docker" / "worker"
# Says when it starts, in a file that is whole once it is there, and how it ends, as NativeLink does: at once.
NATIVELINK = """#!/bin/sh
trap 'echo terminated > "$NATIVELINK_FOLDER/ended"; exit 0' TERM
echo "$@" > "$NATIVELINK_FOLDER/starting"
mv "$NATIVELINK_FOLDER/starting" "$NATIVELINK_FOLDER/started"
while :; do sleep 0.05; done
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "nativelink"
    program.write_text(NATIVELINK)
    program.chmod(0o755)
    (tmp_path / "state" / "work").mkdir(parents=True)
    own = {"NATIVELINK": str(program), "NATIVELINK_FOLDER": str(tmp_path / "state"), "NATIVELINK_PATIENCE": "1"}
    return {**os.environ, **own}


def run(script: str, environment: dict[str, str]) -> int:
    return subprocess.run([SCRIPTS / script], env=environment, check=False, timeout=60).returncode


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_is_told_to_stop_refuses_actions_and_finishes_its_own(
    environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (state / "draining").touch()
    action = state / "work" / "action"
    worker = subprocess.Popen([SCRIPTS / "start.sh", "config.json5"], env={**environment, "NATIVELINK_PATIENCE": "60"})
    try:
        wait_for((state / "started").exists)
        assert (state / "started").read_text() == "config.json5\n"
        assert run("accept.sh", environment) == 0
        action.mkdir()
        worker.send_signal(signal.SIGTERM)
        wait_for((state / "draining").exists)
        assert run("accept.sh", environment) == 1
        time.sleep(0.2)
        assert worker.poll() is None and not (state / "ended").exists()
        action.rmdir()
        assert worker.wait(timeout=60) == 0
        assert (state / "ended").exists()
    finally:
        worker.kill()
        worker.wait()


def test_a_drain_waits_as_long_as_a_program_runs_and_not_for_a_folder_that_stays(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "state" / "work" / "left-behind").mkdir()
    program = ["/opt/nativelink/run_action.pyc", "action", str(tmp_path / "state"), "1", "true"]
    started = time.monotonic()
    action = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)", *program])
    try:
        assert run("drain.sh", environment) == 0
    finally:
        action.kill()
        action.wait()
    assert time.monotonic() - started > 2


def test_an_idle_worker_stops_at_once(environment: dict[str, str]) -> None:
    started = time.monotonic()
    assert run("drain.sh", {**environment, "NATIVELINK_PATIENCE": "60"}) == 0
    assert time.monotonic() - started < 30


def test_a_scheduler_which_has_nowhere_to_write_stops_as_it_should(environment: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "work").rmdir()
    scheduler = subprocess.Popen([SCRIPTS / "start.sh", "config.json5"], env=environment)
    try:
        wait_for((state / "started").exists)
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(timeout=60) == 0
    finally:
        scheduler.kill()
        scheduler.wait()
    assert (state / "ended").exists() and not (state / "draining").exists()


@pytest.mark.parametrize("dialect", ["v0.6", "v1.6"])
def test_a_start_learns_the_longest_action_from_nativelinks_config(
    environment: dict[str, str], tmp_path: Path, dialect: str
) -> None:
    for name in ("start.sh", "drain.sh"):
        shutil.copy(SCRIPTS / name, tmp_path)
    program = "import os, sys; print(sys.argv[1:], os.environ['FINETUNE_ACTION_LONGEST_SECONDS'])"
    (tmp_path / "run_action.py").write_text(program)
    config = SCRIPTS.parent / f"nativelink-{dialect}-worker.json5"
    worker = subprocess.Popen([tmp_path / "start.sh", config], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        assert (
            worker.stdout.readline() == f"['start', '{tmp_path}/state'] {read_platform().action_time_limit_seconds}\n"
        )
        wait_for((tmp_path / "state" / "started").exists)
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_a_worker_starts_over_a_folder_that_a_crash_left_locked(environment: dict[str, str], tmp_path: Path) -> None:
    locked = tmp_path / "state" / "work" / "locked"
    (locked / "inner").mkdir(parents=True)
    (locked / "inner").chmod(0o500)
    locked.chmod(0o500)
    worker = subprocess.Popen([SCRIPTS / "start.sh"], env=environment)
    try:
        wait_for((tmp_path / "state" / "started").exists)
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    assert locked.stat().st_mode & 0o700 == (locked / "inner").stat().st_mode & 0o700 == 0o700
