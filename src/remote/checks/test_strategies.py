"""Whether tests ran remotely, according to Bazel's build events."""

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
        label: of the target.
        status: PASSED, FAILED, TIMEOUT and so on.
        strategy: how it was executed; empty for a result from Bazel's local cache.
        seconds: its duration on the machine that ran it.
    """

    __test__ = False  # not a test class of pytest

    label: str
    status: str
    strategy: str
    seconds: float

    @property
    def ran_remotely(self) -> bool:
        """Whether a remote executor ran it, now or earlier."""
        return self.strategy in (REMOTE, REMOTE_HIT)


def read_runs(path: Path) -> list[TestRun]:
    """Reads the test results from a file that --build_event_json_file wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON.
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
    """Checks that every test in a build event file ran remotely."""
    check = "tests ran remotely"
    try:
        runs = read_runs(path)
    except (OSError, ValueError, AttributeError) as error:
        return Finding.error(
            check,
            f"{path} cannot be read: {error}",
            cause="it is not a file of build events in JSON",
            remedy="run bazel test --config=NAME --build_event_json_file=FILE ..., then doctor with that FILE",
        )
    not_remote = [run for run in runs if not run.ran_remotely]
    if runs and not not_remote:
        counted = Counter(run.strategy for run in runs)
        symptom = ", ".join(f"{count} {strategy}" for strategy, count in sorted(counted.items()))
        return Finding.ok(check, symptom)
    if not runs:
        return Finding(
            check=check,
            level="warning",
            symptom="the file holds no test result",
            cause="no test was run, or the build failed first",
            remedy="look at the output of bazel test",
        )
    labels = ", ".join(f"{run.label} ({run.strategy or 'cached locally'})" for run in not_remote[:5])
    return Finding.error(
        check,
        f"{len(not_remote)} of {len(runs)} did not: {labels}",
        cause="no remote --config was given, a local strategy precedes remote, or Bazel had cached the result",
        remedy="pass the --config, and --nocache_test_results for cached results",
    )
