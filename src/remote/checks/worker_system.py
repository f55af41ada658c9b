"""Doctor's checks of workers in the lane whose actions bring Python and packages: of the system that runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from src.remote.checks.findings import Finding
from src.remote.checks.workers import cpu_finding
from src.remote.reapi.client import NoWorkerError, RemoteClient, RemoteError, TinyAction

# What Bazel's test-setup.sh, the launcher of a Python target and our run_*.sh call.
_PROGRAMS = ("bash", "env", "find", "grep", "sed", "sha256sum", "sort", "tar", "xargs")
# The newest of the locked wheels' tags is manylinux_2_28 (PEP 600): glibc 2.28 or later.
_MIN_GLIBC = (2, 28)
# No Python: the worker may have none. Each line is a name and its value.
_PROBE = f"""
echo "machine $(uname -m)"
echo "libc $(getconf GNU_LIBC_VERSION 2> /dev/null)"
echo "flags $(grep -m 1 ^flags /proc/cpuinfo)"
for name in {" ".join(_PROGRAMS)}; do command -v "$name" > /dev/null || missing="$missing $name"; done
echo "missing$missing"
"""


def check_system(client: RemoteClient, properties: Mapping[str, str], *, seconds: float) -> Iterator[Finding]:
    """Runs a shell script on a worker and checks machine, C library, programs and CPU."""
    try:
        outcome = client.run(TinyAction(arguments=("/bin/sh", "-c", _PROBE), properties=properties), seconds=seconds)
    except (NoWorkerError, RemoteError) as error:
        yield Finding.error("system", f"/bin/sh gives no answer on the worker: {error}")
        return
    facts = dict(line.partition(" ")[::2] for line in outcome.stdout.splitlines())
    yield _system(facts.get("machine", ""), facts.get("libc", ""))
    yield _programs(facts.get("missing", "").split())
    yield cpu_finding(facts.get("flags", "").split())


def _system(machine: str, libc: str) -> Finding:
    name, _, version = libc.partition(" ")
    remedy = "run the workers on x86-64 Linux with glibc 2.28 or later, such as the image of docker/"
    if machine != "x86_64":
        cause = "Python and packages are sent with each action, built for x86-64"
        return Finding.error(
            "system", f"the worker is {machine or 'of an unknown machine'}", cause=cause, remedy=remedy
        )
    if name != "glibc" or tuple(int(part) for part in version.split(".") if part.isdecimal()) < _MIN_GLIBC:
        cause = "the packages that each action brings need glibc 2.28 or later (manylinux_2_28)"
        return Finding.error("system", f"the worker's C library is {libc or 'not glibc'}", cause=cause, remedy=remedy)
    return Finding.ok("system", f"{machine}, {libc}: runs the Python and the packages that actions bring")


def _programs(missing: Sequence[str]) -> Finding:
    if not missing:
        return Finding.ok("programs", f"{', '.join(_PROGRAMS)} are installed")
    return Finding.error(
        "programs",
        f"the worker has no {' and no '.join(missing)}",
        cause="Bazel's test wrapper and the scripts of the tests call them",
        remedy="install them on the workers, or run the workers in the image of docker/",
    )
