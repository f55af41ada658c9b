"""Builds the executor image's root file system without docker: Debian by debootstrap, Python packages from the lock.

It holds the Debian packages that docker/install_system.sh installs and the Python packages of
bazel_requirements_lock.txt without docker/omitted_*.txt, at the path in docker/platform.bzl. Where no index has torch's
CPU wheel, tools/torch_cuda_lock.txt stands in for its lines. debian_lock.txt pins the Debian packages: another version
or an additional package is refused.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from src.remote.image.inputs import read_omitted

ROOT = Path(__file__).parents[3]
CUDA_LOCK = ROOT / "tools" / "torch_cuda_lock.txt"
DEBIAN_LOCK = Path(__file__).with_name("debian_lock.txt")
_SUITE, _PYTHON = "bookworm", "3.11"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# What glibc 2.36 runs. pip derives the older platform tags only when it installs for its own Python.
_WHEELS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"),
)
# Unused, and a third of Debian's minimal system.
_UNUSED_FOLDERS = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"),
    *("var/lib/apt/lists", "var/cache", "var/log"),
)


class BuildError(Exception):
    """The image cannot be built; the message is one sentence."""


def run(command: list[str | Path], *, why: str) -> str:
    """Runs a command and returns its standard output.

    Raises:
        BuildError: it failed; the message is `why` and the last lines of its output.
    """
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if process.returncode:
        lines = [line for line in (process.stdout + process.stderr).splitlines() if "WARNING" not in line]
        raise BuildError(f"{why}: {' / '.join(lines[-4:])}")
    return process.stdout


def build_rootfs(target: Path, *, python: str, relock: bool) -> None:
    """Builds the root file system in an empty folder. Needs root, for chroot.

    Args:
        target: the folder.
        python: path in the image of the interpreter that gets the packages.
        relock: write debian_lock.txt instead of comparing with it.

    Raises:
        BuildError: a step failed, or Debian's packages differ from the lock.
    """
    packages = target.with_name(target.name + ".packages")
    with ThreadPoolExecutor() as pool:
        steps = [pool.submit(_debootstrap, target), pool.submit(install_packages, packages)]
        for step in steps:
            step.result()
    check_debian(target, relock=relock)
    prefix = Path(python).parents[1]
    run(["chroot", target, "python3", "-m", "venv", "--without-pip", prefix], why="python3 cannot make a venv")
    site = target / prefix.relative_to("/") / "lib" / f"python{_PYTHON}" / "site-packages"
    for path in packages.iterdir():
        path.rename(site / path.name)
    packages.rmdir()
    # Actions cannot write here. Unchecked hashes: the image keeps no times to compare a .pyc with.
    compile_all = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-x", "/tests/"]
    # Some packages ship files for other Pythons, which do not compile.
    inside = f"{shlex.join([python, *compile_all, f'/{site.relative_to(target)}'])} >/dev/null 2>&1 || true"
    run(["chroot", target, "sh", "-c", inside], why="cannot compile in the image")
    run(["chroot", target, python, "-c", "import datasets, torch, transformers"], why="cannot import its packages")
    for folder in _UNUSED_FOLDERS:
        shutil.rmtree(target / folder, ignore_errors=True)


def debian_packages() -> list[str]:
    """Returns the packages that docker/install_system.sh installs.

    Raises:
        BuildError: the script has no such line.
    """
    script = (ROOT / "docker" / "install_system.sh").read_text(encoding="utf-8")
    match = re.search(r"^apt-get install((?: -\S+)*)((?: [a-z0-9.+-]+)+)$", script, re.MULTILINE)
    if match is None:
        raise BuildError("docker/install_system.sh has no line `apt-get install -FLAGS PACKAGES`")
    return match.group(2).split()


def _debootstrap(target: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise BuildError("debootstrap is not installed: run ./setup.sh --executor")
    command: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={','.join(debian_packages())}"]
    if _KEYRING.exists():
        command += [f"--keyring={_KEYRING}", "--force-check-gpg"]
    run([*command, _SUITE, target, *_mirror()], why="debootstrap failed")


def _mirror() -> list[str]:
    """Returns the Debian mirror that this machine's apt uses, if any; debootstrap has a default."""
    if shutil.which("apt-get") is None:
        return []
    listed = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"], why="apt")
    return [line.split()[0] for line in listed.splitlines() if line.endswith(f" {_SUITE}")][:1]


def check_debian(target: Path, *, relock: bool) -> None:
    """Compares Debian's packages with debian_lock.txt, or writes that file."""
    query = "dpkg-query -W -f '${Package} ${Version}\\n'"
    installed = run(["chroot", target, "sh", "-c", query], why="the image has no dpkg-query")
    heading = "# Debian packages of the executor's root file system; written by `./setup.sh --executor --relock`.\n"
    if relock:
        DEBIAN_LOCK.write_text(heading + installed, encoding="utf-8")
    locked = [line for line in DEBIAN_LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    if different := sorted(set(locked) ^ set(installed.splitlines())):
        raise BuildError(
            f"Debian's packages differ from debian_lock.txt ({', '.join(different[:4])}): review them and run "
            "./setup.sh --executor --relock"
        )


def split_lock(lock: str, *, omitted: Collection[str]) -> tuple[str, str]:
    """Returns the lock's lines for torch, with its full version, and those for the other packages of the image."""
    stanzas = re.findall(r"^[a-zA-Z0-9][^\n]*(?:\n    [^\n]*)*", lock, re.MULTILINE)
    by_name = {stanza.partition("==")[0]: stanza for stanza in stanzas}
    torch = re.sub(r"^torch==([^ +]+)", r"torch==\1+cpu", by_name.pop("torch"))
    return torch + "\n", "".join(f"{stanza}\n" for name, stanza in by_name.items() if name not in omitted)


def install_packages(target: Path) -> None:
    """Installs the locked packages into a folder, for the image's Python rather than this one."""
    target.mkdir(parents=True)
    lock = (ROOT / "bazel_requirements_lock.txt").read_text(encoding="utf-8")
    omitted = read_omitted(ROOT / "docker" / "omitted_packages.txt")
    torch, others = split_lock(lock, omitted=omitted)
    try:
        _pip_install(torch, target, f"--extra-index-url={_TORCH_INDEX}")
    except BuildError as error:
        if "No matching distribution found" not in str(error):
            raise
        cuda_lock = CUDA_LOCK.read_text(encoding="utf-8")
        size = re.findall(r"^# download: (.*)$", cuda_lock, re.MULTILINE)[0]
        sys.stdout.write(f"setup: no index that pip reaches has torch's CPU wheel: taking PyPI's, {size} to download\n")
        sys.stdout.flush()
        _pip_install(cuda_lock, target)
    _pip_install(others, target)
    for pattern in ("bin", *read_omitted(ROOT / "docker" / "omitted_files.txt")):
        for path in target.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _pip_install(requirements: str, target: Path, *flags: str) -> None:
    file = target.with_name(f"{target.name}.txt")
    file.write_text(requirements, encoding="utf-8")
    flags = (*pip_flags(), "--no-compile", "--target", str(target), "-r", str(file), *flags)
    run([sys.executable, "-m", "pip", "install", *flags], why="pip could not install the locked packages")
    file.unlink()


def pip_flags() -> list[str]:
    """Returns pip's flags for hash-checked wheels of the image's Python."""
    flags = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes"]
    flags += ["--only-binary=:all:", f"--python-version={_PYTHON}", "--implementation=cp"]
    return flags + [f"--platform={name}" for name in _WHEELS]
