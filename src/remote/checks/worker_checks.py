"""Doctor's checks of the workers, each by a tiny action with a time limit of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from src.remote.checks.findings import Finding
from src.remote.reapi.client import NoWorkerError, Outcome, RemoteClient, RemoteError, TinyAction

# Seconds that Bazel gives a test of each size, and asks of the worker.
TEST_SECONDS = {"small": 60, "medium": 300, "large": 900, "enormous": 3600}
_PROBE = Path(__file__).with_name("worker_probe.py")
# Of `--reproducible portable`: the floor that src/training/environment/determinism.py sets.
_CPU_FLAGS = ("avx2", "fma")
_OUTPUT = "doctor-output"
_TRUE = ("/bin/sh", "-c", f"echo written > {_OUTPUT}")


def check_platform(client: RemoteClient, properties: Mapping[str, str], *, seconds: float) -> tuple[Finding, bool]:
    """Sends an action that does next to nothing; returns the finding, and whether actions are run at all.

    A scheduler says nothing of an action that no worker fits: it waits. So the same action is sent at the same time
    once without each property: what then runs tells which one no worker has.
    """
    variants = [dict(properties)] + [
        {key: value for key, value in properties.items() if key != left_out} for left_out in properties
    ]
    with ThreadPoolExecutor(len(variants)) as pool:
        first, *others = pool.map(lambda asked: _try(client, asked, seconds=seconds), variants)
    if isinstance(first, Outcome):
        return _ran(first), first.exit_code == 0
    culprits = [name for name, found in zip(properties, others, strict=True) if isinstance(found, Outcome)]
    return _no_worker(first, properties, culprits, seconds=seconds), False


def _try(client: RemoteClient, properties: Mapping[str, str], *, seconds: float) -> Outcome | Exception:
    action = TinyAction(arguments=_TRUE, properties=properties, outputs=(_OUTPUT,))
    try:
        return client.run(action, seconds=seconds)
    except (NoWorkerError, RemoteError) as error:
        return error


def _ran(outcome: Outcome) -> Finding:
    if outcome.exit_code:
        return Finding(
            check="platform",
            level="error",
            symptom=f"a worker runs the action, which ends with {outcome.exit_code}: {outcome.stderr.strip()}",
            cause="the image has no /bin/sh, or its folder cannot be written to",
            remedy="build the executor image of docker/ and start the workers in it",
        )
    if _OUTPUT not in outcome.output_paths:
        return Finding(
            check="platform",
            level="error",
            symptom="a worker runs the action, but its output does not come back",
            cause="the server does not know the way this version of the protocol names outputs",
            remedy="take a server for the version of Bazel that is used here",
        )
    return Finding(check="platform", level="ok", symptom=f"a worker ran an action in {outcome.seconds:.1f} seconds")


def _no_worker(
    problem: Exception, properties: Mapping[str, str], culprits: Sequence[str], *, seconds: float
) -> Finding:
    asked = ", ".join(f"{name}={properties[name]}" for name in culprits or properties)
    waits = isinstance(problem, NoWorkerError)
    symptom = f"an action waits for more than {seconds:g} seconds" if waits else f"an action is refused: {problem}"
    if culprits:
        return Finding(
            check="platform",
            level="error",
            symptom=symptom,
            cause=f"no worker has {asked}: without it the same action runs. The text is compared letter by letter",
            remedy="run .venv/bin/python -m src.remote.nativelink.docker_files, which makes docker/platform.bzl and "
            "the workers' configuration agree, then build the image and start the workers again",
        )
    return Finding(
        check="platform",
        level="error",
        symptom=symptom,
        cause=f"no worker is there or all are busy, or no worker has two or more of: {asked}",
        remedy="see whether the scheduler has workers, compare their properties with docker/platform.bzl, and give "
        "slow or busy ones longer: --wait 60",
    )


def check_environment(
    client: RemoteClient, properties: Mapping[str, str], *, python: str, lock: Mapping[str, str], seconds: float
) -> Iterator[Finding]:
    """Runs the image's Python on a worker and compares what is there with the lock."""
    script = _PROBE.read_text(encoding="utf-8")
    try:
        outcome = client.run(TinyAction(arguments=(python, "-I", "-c", script), properties=properties), seconds=seconds)
    except (NoWorkerError, RemoteError) as error:
        yield Finding(check="python", level="error", symptom=f"{python} gives no answer on the worker: {error}")
        return
    if outcome.exit_code:
        yield Finding(
            check="python",
            level="error",
            symptom=f"{python} does not run on the worker: {outcome.stderr.strip()[-300:]}",
            cause="the worker does not run in the executor image, or has another one",
            remedy="start the workers in the image of docker/platform.bzl: docker/README.md",
        )
        return
    found = json.loads(outcome.stdout)
    yield Finding(check="python", level="ok", symptom=f"{found['python']}, {found['executable']}")
    yield _packages(found["packages"], lock)
    yield _programs(found["programs"])
    yield _cpu(found["cpu_flags"])


def _packages(found: Mapping[str, str], lock: Mapping[str, str]) -> Finding:
    wrong = []
    for name, version in sorted(lock.items()):
        there = found.get(name)
        if there is None:
            wrong.append(f"{name} is missing")
        elif there.partition("+")[0] != version:
            wrong.append(f"{name} is {there} and not {version}")
    if not wrong:
        return Finding(check="packages", level="ok", symptom=f"{len(lock)} packages are those of the lock")
    return Finding(
        check="packages",
        level="error",
        symptom=f"{len(wrong)} of {len(lock)} differ: {', '.join(wrong[:5])}",
        cause="the image was built from another lock",
        remedy="run .venv/bin/python -m src.remote.nativelink.docker_files, so that old workers do not match, and "
        "build the image",
    )


def _programs(found: Mapping[str, bool]) -> Finding:
    missing = [name for name, there in found.items() if not there]
    if not missing:
        return Finding(check="programs", level="ok", symptom=f"{', '.join(found)} are there")
    return Finding(
        check="programs",
        level="error",
        symptom=f"the worker has no {' and no '.join(missing)}",
        cause="Bazel's test wrapper packs test.outputs with zip and file: without them models do not come back",
        remedy="install them in the image: docker/install_system.sh does",
    )


def _cpu(flags: Sequence[str]) -> Finding:
    missing = [flag for flag in _CPU_FLAGS if flag not in flags]
    if not missing:
        return Finding(
            check="cpu", level="ok", symptom=f"has {' and '.join(_CPU_FLAGS)}: --reproducible portable holds"
        )
    return Finding(
        check="cpu",
        level="error",
        symptom=f"the worker's CPU has no {' and no '.join(missing)}",
        cause="--reproducible portable stands on AVX2; without it other instructions give other bits",
        remedy="take workers with AVX2, or train with --reproducible machine and share no cache with other machines",
    )


def sizes_in_use(root: Path) -> list[str]:
    """Returns the test sizes that BUILD files name, the smallest first."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("src/**/BUILD")))
    named = set(re.findall(r'^    size = "([a-z]+)"', text, re.MULTILINE))
    return [size for size in TEST_SECONDS if size in named]


def check_time_limits(
    client: RemoteClient, properties: Mapping[str, str], *, sizes: Sequence[str], seconds: float
) -> Iterator[Finding]:
    """Asks for the time limit of each test size: a server refuses what is above its own."""
    for size in sizes:
        action = TinyAction(arguments=("/bin/sh", "-c", ":"), properties=properties, seconds=TEST_SECONDS[size])
        check = f"time limit of {size} tests"
        try:
            client.run(action, seconds=seconds)
        except RemoteError as error:
            yield Finding(
                check=check,
                level="error",
                symptom=f"an action with {TEST_SECONDS[size]} seconds is refused: {error}",
                cause="the server's own limit for an action is below it",
                remedy="raise max_action_timeout (from v1: max_action_timeout_s) in the worker's configuration",
            )
        except NoWorkerError as error:
            yield Finding(check=check, level="warning", symptom=str(error), cause="the workers are busy")
        else:
            yield Finding(check=check, level="ok", symptom=f"{TEST_SECONDS[size]} seconds are accepted")


def lock_pins(lock: str, omitted: str, *, applies: Any) -> dict[str, str]:
    """Returns name and version of each locked package that the image has.

    Args:
        lock: text of bazel_requirements_lock.txt.
        omitted: text of docker/omitted_packages.txt.
        applies: tells of a marker whether it holds on the worker.
    """
    names = {line for line in omitted.splitlines() if line and not line.startswith("#")}
    pins = re.findall(r"^([a-z0-9][^ \[=]*)(?:\[[^\]]*\])?==([^ \\;]+)(?: ; ([^\\]+?))?(?: \\)?$", lock, re.MULTILINE)
    return {name: version for name, version, marker in pins if name not in names and (not marker or applies(marker))}
