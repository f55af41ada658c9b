"""Whether tests ran remotely, by what Bazel itself records of them in its build events."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from src.remote.checks.findings import Finding

REMOTE, REMOTE_HIT = "remote", "remote cache hit"


@dataclass(frozen=True, kw_only=True)
class TestRun:
    """One run of a test.

    Attributes:
        label: its target.
        status: PASSED, FAILED, TIMEOUT and so on.
        strategy: how it was executed; empty for a result that Bazel had already.
        seconds: how long it took where it ran.
    """

    __test__ = False  # not a test class of pytest

    label: str
    status: str
    strategy: str
    seconds: float

    @property
    def ran_remotely(self) -> bool:
        """Whether a remote executor ran it, now or at an earlier time."""
        return self.strategy in (REMOTE, REMOTE_HIT)


def read_runs(path: Path) -> list[TestRun]:
    """Reads the test results out of a file that --build_event_json_file wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    runs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if "testResult" not in event.get("id", {}):
            continue
        result = event.get("testResult")
        if result is None:
            continue
        strategy = result.get("executionInfo", {}).get("strategy", "")
        label = event["id"]["testResult"]["label"]
        seconds = int(result.get("testAttemptDurationMillis", 0)) / 1000
        runs.append(TestRun(label=label, status=result.get("status", ""), strategy=strategy, seconds=seconds))
    return runs


def check_build_events(path: Path) -> Finding:
    """Says of the tests in a build event file where they ran."""
    check = "tests ran remotely"
    try:
        runs = read_runs(path)
    except (OSError, ValueError, AttributeError) as error:
        return Finding(
            check=check,
            level="error",
            symptom=f"{path} cannot be read: {error}",
            cause="it is no file of build events in JSON",
            remedy="run bazel test --config=NAME --build_event_json_file=FILE ..., then doctor with that FILE",
        )
    elsewhere = [run for run in runs if not run.ran_remotely]
    if runs and not elsewhere:
        counted = Counter(run.strategy for run in runs)
        symptom = ", ".join(f"{count} {strategy}" for strategy, count in sorted(counted.items()))
        return Finding(check=check, level="ok", symptom=symptom)
    if not runs:
        return Finding(
            check=check,
            level="warning",
            symptom="no test has a result in that file",
            cause="nothing was tested, or the build failed before",
            remedy="look at what bazel test said",
        )
    named = ", ".join(f"{run.label} ({run.strategy or 'a result Bazel had already'})" for run in elsewhere[:5])
    return Finding(
        check=check,
        level="error",
        symptom=f"{len(elsewhere)} of {len(runs)} did not: {named}",
        cause="no remote --config was given, a local strategy stands before remote, or the result was there already",
        remedy="give the --config, and --nocache_test_results where Bazel holds a result",
    )
