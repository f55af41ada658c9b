"""Kills, damage and a full disk: afterwards every entry that `ls` calls ok is right, and none is lost.

    bazel test //src/cache_manager:fault_test --test_output=all

Eight processes commit, import, pull, collect garbage and repair, and are killed with SIGKILL at random instants;
between rounds bits are flipped, blobs truncated, manifests emptied and files removed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import multiprocessing.context
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from src.cache_manager.commands.program import run_command
from src.cache_manager.sharing.shared_cache import SharedCache
from src.cache_manager.store.records import records
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing import fault_worker
from src.cache_manager.testing.fault_damage import damage
from src.cache_manager.testing.fault_worker import Place, work
from src.cache_manager.testing.sample_entries import bytes_on_disk, commit_sample, sample_key, write_model_folder

PROCESSES = 8
KILLS = 240
ROUNDS = 8
# An operation takes a few milliseconds: a process is killed during one of its first, at any instant.
LONGEST_LIFE_SECONDS = 0.12
SAFE = 10_000

_FORK = multiprocessing.get_context("fork")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of everything random here; FAULT_SEED repeats the choices of a run, though not the kernel's."""
    chosen = int(os.environ.get("FAULT_SEED") or time.time_ns() % 1_000_000)
    sys.stderr.write(f"{request.node.name}: FAULT_SEED={chosen}\n")
    return chosen


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A cache, models to import and a shared cache to pull from; pinned entries stand for what must never go."""
    logging.getLogger("finetune.cache").setLevel(logging.CRITICAL)
    theirs = Store(tmp_path / "theirs")
    shared = SharedCache((tmp_path / "shared").as_uri())
    for number in range(8):
        write_model_folder(tmp_path / "scratch" / "imports" / str(number), seed=1000 + number, size=fault_worker.SIZE)
        key = commit_sample(theirs, tmp_path / "scratch" / "theirs" / str(number), seed=2000 + number, size=50_000)
        shared.push(theirs, key)
    return Place(root=tmp_path / "cache", scratch=tmp_path / "scratch", url=shared.url)


def add_pinned(place: Place, count: int) -> list[str]:
    """Commits and pins entries that only damage may harm."""
    store = Store(place.root)
    keys = []
    for number in range(SAFE, SAFE + count):
        store.usage.pin(sample_key(number))
        keys.append(commit_sample(store, place.scratch / "safe" / str(number), seed=number, size=20_000))
    return keys


def kill_many(place: Place, *, kills: int, choose: random.Random) -> int:
    """Keeps eight processes at work and kills one after another; returns how many were alive when they were."""
    running: dict[int, tuple[multiprocessing.context.ForkProcess, float]] = {}
    killed = 0
    while killed < kills or running:
        for number in range(PROCESSES):
            if number not in running and killed + len(running) < kills:
                process = _FORK.Process(target=work, args=(place, number, choose.randrange(1 << 30)))
                process.start()
                running[number] = process, time.monotonic() + choose.uniform(0.0, LONGEST_LIFE_SECONDS)
        for number, (process, end) in list(running.items()):
            if time.monotonic() < end:
                continue
            assert process.is_alive(), f"a worker ended by itself: exit code {process.exitcode}"
            process.kill()
            process.join()
            place.note_end(process.pid, "killed", "-", begun=time.time())
            del running[number]
            killed += 1
        time.sleep(0.001)
    return killed


def check(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Asks `ls` and reads every entry that it calls ok; returns their keys."""
    monkeypatch.setenv("FINETUNE_CACHE_DIR", str(place.root))
    capsys.readouterr()
    assert run_command(["ls", "--json"]) == 0
    whole = {entry["key"] for entry in json.loads(capsys.readouterr().out) if entry["state"] == "ok"}
    store = Store(place.root)
    for key in whole:
        found = inspect(store.layout, key, every_byte=True)
        assert found.state == "ok", found
        with safe_open(store.path(key) / "model.safetensors", framework="numpy") as file:
            assert file.get_tensor("w").nbytes >= 20_000
    return whole


def lost(place: Place, whole: set[str]) -> set[str]:
    """Returns keys that were reported as committed and are neither whole, nor known as bad, nor evicted on purpose.

    An eviction is noted before it happens, so its note may be older than a commit of the same key that found the entry
    still in place: the eviction counts if its process was still at work when the commit began.
    """
    store = Store(place.root)
    begun: dict[str, float] = {}
    ended: dict[int, list[float]] = {}
    for line in place.done.read_text().splitlines():
        process, operation, key, began, end = line.split()
        ended.setdefault(int(process), []).append(float(end))
        if operation in ("commit", "import", "pull"):
            begun[key] = max(begun.get(key, 0.0), float(began))
    evicted_until: dict[str, float] = {}
    for line in store.layout.evictions.read_text().splitlines() if store.layout.evictions.exists() else ():
        eviction = json.loads(line)
        ends = ended[int(eviction["why"].split()[-1])]
        # Its time is rounded to milliseconds.
        until = min((end for end in ends if end > eviction["time"] + 0.001), default=max(ends))
        evicted_until[eviction["key"]] = max(evicted_until.get(eviction["key"], 0.0), until)
    bad = {record.key for record in records(store) if record.state != "ok"}
    quarantined = {path.name.partition("+")[0] for path in leftovers(store.layout.quarantine)}
    gone = set(begun) - whole - bad - quarantined
    return {key for key in gone if evicted_until.get(key, 0.0) < begun[key]}


def leftovers(*folders: Path) -> Iterator[Path]:
    """Yields what is in folders that should be empty."""
    for folder in folders:
        if folder.is_dir():
            yield from folder.iterdir()


def test_kills_and_damage(
    place: Place, seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = random.Random(seed)
    spared = {key for key in add_pinned(place, 6) if int(key[-1], 16) % 2 == 1}
    assert spared
    killed, harmed = 0, Counter[str]()
    for _ in range(ROUNDS):
        killed += kill_many(place, kills=KILLS // ROUNDS, choose=choose)
        harmed += damage(Store(place.root), choose=choose)
        whole = check(place, capsys, monkeypatch)
        assert spared <= whole, "a pinned entry that nobody harmed is gone"
        assert not lost(place, whole)
    interrupted = Counter(line.split()[1] for line in place.begun.read_text().splitlines())
    finished = Counter(line.split()[1] for line in place.done.read_text().splitlines())
    del finished["killed"]
    assert run_command(["repair"]) == 0 and run_command(["gc", "--yes"]) == 0
    whole = check(place, capsys, monkeypatch)
    assert spared <= whole and not lost(place, whole)
    store = Store(place.root)
    assert run_command(["verify"]) == 0
    layout = store.layout
    assert not list(leftovers(layout.incoming, layout.trash, layout.leases, layout.training))
    assert not [path for path in place.root.rglob(".*") if path.name != ".manifest-copy.json"]
    sys.stderr.write(
        f"{killed} kills; begun {dict(interrupted)}; finished {dict(finished)}; harmed {dict(harmed)}; "
        f"{len(whole)} whole entries at the end\n"
    )
    assert killed >= 200 and {"commit", "import", "pull", "gc"} <= interrupted.keys()
    assert sum(interrupted.values()) - sum(finished.values()) >= killed // 2, "too few were killed at work"


def test_kills_under_a_byte_limit(
    place: Place, seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 12 * fault_worker.SIZE
    limited = Place(root=place.root, scratch=place.scratch, url=place.url, limit=limit)
    spared = set(add_pinned(place, 2))
    kill_many(limited, kills=60, choose=random.Random(seed))
    whole = check(limited, capsys, monkeypatch)
    assert spared <= whole and not lost(limited, whole)
    assert bytes_on_disk(place.root) <= limit, "what killed processes left counts as well"


_FILL = """
set -e
mount -t tmpfs -o size=1500k tmpfs "$1"
exec "$2" -c '
import sys; from pathlib import Path
from src.cache_manager.fault_test import fill_disk
fill_disk(Path(sys.argv[1]), Path(sys.argv[2]))' "$1" "$3"
"""


def fill_disk(root: Path, scratch: Path) -> None:
    """Commits until the disk is full, several times over; runs in a process that has a small disk mounted."""
    from src.cache_manager.store.store import CacheError

    logging.getLogger("finetune.cache").setLevel(logging.CRITICAL)
    store = Store(root)
    kept: list[str] = []
    refused = 0
    for number in range(60):
        size = random.Random(number).randrange(1_000, 400_000)
        try:
            kept.append(commit_sample(store, scratch / str(number), seed=number, size=size))
        except CacheError as error:
            assert "is full" in str(error)
            refused += 1
    assert kept and refused, (kept, refused)
    assert not list(store.layout.incoming.iterdir()), "a refused commit leaves nothing"
    for key in kept:
        assert inspect(store.layout, key, every_byte=True).state == "ok"
    assert {record.key for record in records(store) if record.state == "ok"} == set(kept)
    sys.stdout.write(f"kept {len(kept)}, refused {refused}\n")


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["sh", "-c", _FILL, "sh", str(disk), sys.executable, str(tmp_path / "scratch")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A mount of its own, seen by nobody else and gone with the process.
    for prefix in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            found = subprocess.run(
                [*prefix, *mounting], capture_output=True, text=True, check=False, env=environment, timeout=120
            )
        except FileNotFoundError:
            break
        if "mount:" not in found.stderr and "unshare" not in found.stderr:
            assert found.returncode == 0, found.stderr
            sys.stderr.write(f"full disk: {found.stdout}")
            return
    sys.stderr.write("SKIPPED: no small disk can be mounted here, so the full disk was NOT tested\n")
    pytest.skip("no small disk can be mounted here: the full disk was not tested")
