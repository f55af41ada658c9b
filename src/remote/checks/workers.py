"""Doctor's checks of the workers, each by a tiny action with its own timeout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from src.remote.checks.findings import Finding
from src.remote.reapi.client import NoWorkerError, Outcome, RemoteClient, RemoteError, TinyAction

# Bazel's default timeout of each test size, in seconds; it requests the same of the worker.
TEST_SECONDS = {"small": 60, "medium": 300, "large": 900, "enormous": 3600}
_PROBE = Path(__file__).with_name("worker_probe.py")
# `--reproducible portable` requires these: the floor that src/training/environment/determinism.py sets.
_CPU_FLAGS = ("avx2", "fma")
_OUTPUT = "doctor-output"
_WRITE_OUTPUT = ("/bin/sh", "-c", f"echo written > {_OUTPUT}")
# In BUILD files: a key of py_modules' tests, and the attribute of a rule.
_TEST_SIZE = re.compile(r'^ +(?:"([a-z]+)": \{$|size = "([a-z]+)",$)', re.MULTILINE)


def check_platform(client: RemoteClient, properties: Mapping[str, str], *, seconds: float) -> tuple[Finding, bool]:
    """Runs a minimal action; returns the finding, and whether actions run at all.

    A scheduler does not report an action that no worker matches: it queues it. So the same action is sent at the same
    time once without each property: a variant that runs names the property that no worker has.
    """
    variants = [dict(properties)] + [
        {name: value for name, value in properties.items() if name != omitted} for omitted in properties
    ]
    with ThreadPoolExecutor(len(variants)) as pool:
        result, *others = pool.map(lambda variant: _try(client, variant, seconds=seconds), variants)
    if isinstance(result, Outcome):
        return _ran(result), result.exit_code == 0
    unmatched = [name for name, other in zip(properties, others, strict=True) if isinstance(other, Outcome)]
    return _no_worker(result, properties, unmatched, seconds=seconds), False


def _try(client: RemoteClient, properties: Mapping[str, str], *, seconds: float) -> Outcome | Exception:
    action = TinyAction(arguments=_WRITE_OUTPUT, properties=properties, outputs=(_OUTPUT,))
    try:
        return client.run(action, seconds=seconds)
    except (NoWorkerError, RemoteError) as error:
        return error


def _ran(outcome: Outcome) -> Finding:
    if outcome.exit_code:
        return Finding.error(
            "platform",
            f"a worker runs the action, which exits with {outcome.exit_code}: {outcome.stderr.strip()}",
            cause="the image has no /bin/sh, or the action's folder is not writable",
            remedy="build the executor image of docker/ and start the workers in it",
        )
    if _OUTPUT not in outcome.output_paths:
        return Finding.error(
            "platform",
            "a worker runs the action, but its output does not come back",
            cause="the server does not support the output fields of this protocol version",
            remedy="use a server that supports the version of Bazel in use",
        )
    return Finding.ok("platform", f"a worker ran an action in {outcome.seconds:.1f} seconds")


def _no_worker(
    problem: Exception, properties: Mapping[str, str], unmatched: Sequence[str], *, seconds: float
) -> Finding:
    requested = ", ".join(f"{name}={properties[name]}" for name in unmatched or properties)
    timed_out = isinstance(problem, NoWorkerError)
    symptom = f"an action waits for more than {seconds:g} seconds" if timed_out else f"an action is refused: {problem}"
    if unmatched:
        return Finding.error(
            "platform",
            symptom,
            cause=f"no worker has {requested}: without it the same action runs. The values must match exactly",
            remedy="run .venv/bin/python -m src.remote.nativelink.docker_files, which makes docker/platform.bzl and "
            "the workers' configuration agree, then build the image and restart the workers",
        )
    return Finding.error(
        "platform",
        symptom,
        cause=f"there are no workers, all are busy, or no worker has two or more of: {requested}",
        remedy="check that the scheduler has workers, compare their properties with docker/platform.bzl, and allow "
        "slow or busy ones more time: --wait 60",
    )


def check_environment(
    client: RemoteClient, properties: Mapping[str, str], *, python: str, lock: Mapping[str, str], seconds: float
) -> Iterator[Finding]:
    """Runs the image's Python on a worker and compares its packages with the lock."""
    script = _PROBE.read_text(encoding="utf-8")
    try:
        outcome = client.run(TinyAction(arguments=(python, "-I", "-c", script), properties=properties), seconds=seconds)
    except (NoWorkerError, RemoteError) as error:
        yield Finding.error("python", f"{python} gives no answer on the worker: {error}")
        return
    if outcome.exit_code:
        yield Finding.error(
            "python",
            f"{python} does not run on the worker: {outcome.stderr.strip()[-300:]}",
            cause="the worker does not run in the executor image, or runs in another one",
            remedy="start the workers in the image of docker/platform.bzl: docker/README.md",
        )
        return
    worker = json.loads(outcome.stdout)
    yield Finding.ok("python", f"{worker['python']}, {worker['executable']}")
    yield _packages(worker["packages"], lock)
    yield _programs(worker["programs"])
    yield cpu_finding(worker["cpu_flags"])


def _packages(installed: Mapping[str, str], lock: Mapping[str, str]) -> Finding:
    differences = []
    for name, version in sorted(lock.items()):
        actual = installed.get(name)
        if actual is None:
            differences.append(f"{name} is missing")
        elif actual.partition("+")[0] != version:
            differences.append(f"{name} is {actual}, not {version}")
    if not differences:
        return Finding.ok("packages", f"all {len(lock)} packages match the lock")
    return Finding.error(
        "packages",
        f"{len(differences)} of {len(lock)} differ: {', '.join(differences[:5])}",
        cause="the image was built from another lock",
        remedy="run .venv/bin/python -m src.remote.nativelink.docker_files, so that old workers no longer match, and "
        "build the image",
    )


def _programs(installed: Mapping[str, bool]) -> Finding:
    missing = [name for name, is_installed in installed.items() if not is_installed]
    if not missing:
        return Finding.ok("programs", f"{', '.join(installed)} are installed")
    return Finding.error(
        "programs",
        f"the worker has no {' and no '.join(missing)}",
        cause="Bazel's test wrapper lists test.outputs with file, and before Bazel 8 packs them with zip: without them "
        "models do not come back",
        remedy="install them in the image: docker/install_system.sh does",
    )


def cpu_finding(flags: Collection[str]) -> Finding:
    """Returns whether a worker's CPU has the instructions that reproducible trainings use."""
    if not flags:
        cause = "its actions have no /proc, or it is not x86-64"
        remedy = "compare model.safetensors of one training there and here"
        symptom = "the worker does not say what its CPU has"
        return Finding(check="cpu", level="warning", symptom=symptom, cause=cause, remedy=remedy)
    missing = [flag for flag in _CPU_FLAGS if flag not in flags]
    if not missing:
        return Finding.ok("cpu", f"has {' and '.join(_CPU_FLAGS)}: --reproducible portable holds")
    return Finding.error(
        "cpu",
        f"the worker's CPU has no {' and no '.join(missing)}",
        cause="--reproducible portable relies on AVX2; other instructions give other bits",
        remedy="use workers with AVX2, or train with --reproducible machine and do not share a cache between machines",
    )


def sizes_in_use(root: Path) -> list[str]:
    """Returns the test sizes in the BUILD files, smallest first."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("src/**/BUILD")))
    used = {size for match in _TEST_SIZE.finditer(text) for size in match.groups()}
    return [size for size in TEST_SECONDS if size in used]


def check_time_limits(
    client: RemoteClient, properties: Mapping[str, str], *, sizes: Sequence[str], seconds: float
) -> Iterator[Finding]:
    """Requests the timeout of each test size: a server refuses one above its own limit."""
    for size in sizes:
        action = TinyAction(arguments=("/bin/sh", "-c", ":"), properties=properties, seconds=TEST_SECONDS[size])
        check = f"time limit of {size} tests"
        try:
            client.run(action, seconds=seconds)
        except RemoteError as error:
            yield Finding.error(
                check,
                f"an action with {TEST_SECONDS[size]} seconds is refused: {error}",
                cause="the server's limit for an action is lower",
                remedy="raise max_action_timeout (from v1: max_action_timeout_s) in the worker's configuration",
            )
        except NoWorkerError as error:
            yield Finding(check=check, level="warning", symptom=str(error), cause="the workers are busy")
        else:
            yield Finding.ok(check, f"{TEST_SECONDS[size]} seconds are accepted")


def lock_pins(lock: str, *, omitted: Collection[str], applies: Callable[[str], bool]) -> dict[str, str]:
    """Returns name and version of each locked package that the image holds.

    Args:
        lock: text of bazel_requirements_lock.txt.
        omitted: packages that the image leaves out.
        applies: whether a marker is true on the worker.
    """
    pins = re.findall(r"^([a-z0-9][^ \[=]*)(?:\[[^\]]*\])?==([^ \\;]+)(?: ; ([^\\]+?))?(?: \\)?$", lock, re.MULTILINE)
    return {name: version for name, version, marker in pins if name not in omitted and (not marker or applies(marker))}
