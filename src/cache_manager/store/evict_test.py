"""What is pinned or in use stays; the rest goes, least recently used first, and the limit holds at every moment."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from src.cache_manager.store.evict import empty_quarantine, execute, make_room, plan, remove
from src.cache_manager.store.repair import repair
from src.cache_manager.store.store import Store
from src.cache_manager.store.sweep import sweep
from src.cache_manager.store.training_folder import claimed_training_folder
from src.cache_manager.store.verify import Finding, inspect
from src.cache_manager.testing.sample_entries import bytes_on_disk, commit_sample, sample_key
from src.cli.errors import RequestError


def filled(tmp_path: Path, *, count: int, size: int = 4096, limit: int | None = None) -> Store:
    """Returns a cache whose entries were last used in the order of their seeds."""
    store = Store(tmp_path / "cache", limit=limit)
    for seed in range(count):
        key = commit_sample(store, tmp_path / f"model-{seed}", seed=seed, size=size)
        os.utime(store.layout.used / key, (1000.0 + seed, 1000.0 + seed))
    return store


def seeds_left(store: Store, count: int = 10) -> set[int]:
    return {seed for seed in range(count) if store.path(sample_key(seed)).exists()}


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = filled(tmp_path, count=4)
    store.lookup(sample_key(0))
    chosen = plan(store, max_size=store.budget.used() - 9000, max_age=None)
    assert [eviction.record.key for eviction in chosen.evictions] == [sample_key(1), sample_key(2)]
    assert seeds_left(store) == {0, 1, 2, 3}, "a plan changes nothing"
    before = store.budget.used()
    assert execute(store, chosen) == chosen.freed_bytes == before - store.budget.used()
    assert seeds_left(store) == {0, 3} and chosen.kept_bytes == store.budget.used()


def test_an_age_takes_what_was_not_used_for_so_long(tmp_path: Path) -> None:
    store = filled(tmp_path, count=3)
    store.lookup(sample_key(1))
    execute(store, plan(store, max_size=None, max_age=3600.0))
    assert seeds_left(store) == {1}


def test_pinned_and_used_entries_stay(tmp_path: Path) -> None:
    store = filled(tmp_path, count=3)
    store.usage.pin(sample_key(0))
    with store.usage.lease(sample_key(1)):
        execute(store, plan(store, max_size=0, max_age=None))
        assert seeds_left(store) == {0, 1}
        assert not remove(store, sample_key(0), why="test") and not remove(store, sample_key(1), why="test")
    execute(store, plan(store, max_size=0, max_age=None))
    assert seeds_left(store) == {0}


def _hold_and_wait(root: Path, key: str, ready: str) -> None:
    Store(root).usage.hold(key)
    Path(ready).touch()
    time.sleep(60)


def test_a_lease_ends_with_a_killed_process(tmp_path: Path) -> None:
    store = filled(tmp_path, count=1)
    holder = multiprocessing.get_context("fork").Process(
        target=_hold_and_wait, args=(store.layout.root, sample_key(0), str(tmp_path / "ready"))
    )
    holder.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    assert store.usage.in_use() == {sample_key(0)}
    holder.kill()
    holder.join()
    assert store.usage.in_use() == set() and not list(store.layout.leases.iterdir())


def test_what_entries_share_is_freed_with_the_last_of_them(tmp_path: Path) -> None:
    store = filled(tmp_path, count=3, size=1000)
    chosen = plan(store, max_size=0, max_age=None)
    shared = (store.path(sample_key(0)) / "tokenizer.json").stat().st_size
    # Their manifests differ by some digits.
    assert abs(chosen.evictions[2].frees - chosen.evictions[0].frees - shared) < 100 < shared
    execute(store, chosen)
    assert not list(store.blobs.all())


def test_evictions_are_noted(tmp_path: Path) -> None:
    store = filled(tmp_path, count=1)
    remove(store, sample_key(0), why="a test")
    assert store.usage.evictions()[sample_key(0)]["why"] == "a test"


def test_a_commit_over_the_limit_evicts_the_oldest(tmp_path: Path) -> None:
    store = filled(tmp_path, count=3, size=10_000, limit=45_000)
    commit_sample(store, tmp_path / "model-3", seed=3, size=20_000)
    assert seeds_left(store) == {2, 3} and store.budget.used() <= 45_000


def test_what_cannot_fit_is_refused_and_evicts_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, count=2, size=10_000, limit=45_000)
    with pytest.raises(RequestError, match="does not fit"):
        commit_sample(store, tmp_path / "large", seed=3, size=50_000)
    store.usage.pin(sample_key(0))
    assert make_room(store, 40_000) == 0
    assert seeds_left(store) == {0, 1} and not list(store.layout.incoming.iterdir())


def quarantine(store: Store, seed: int) -> None:
    weights = store.path(sample_key(seed)) / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"x" * weights.stat().st_size)
    assert store.lookup(sample_key(seed)) is None


def test_entries_go_before_the_quarantine_whose_week_is_promised(tmp_path: Path) -> None:
    store = filled(tmp_path, count=3, size=10_000, limit=45_000)
    quarantine(store, 2)
    commit_sample(store, tmp_path / "model-3", seed=3, size=10_000)
    assert seeds_left(store) == {1, 3} and len(store.usage.quarantined()) == 1


def test_the_quarantine_goes_early_only_where_nothing_else_makes_room_and_not_without_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.cache_manager.store.budget._ATTEMPTS", 1)
    store = filled(tmp_path, count=2, size=10_000, limit=35_000)
    quarantine(store, 1)
    for seed in (0, 1):
        store.usage.pin(sample_key(seed))
        os.utime(store.layout.pins / sample_key(seed), (0, 0))
    with pytest.raises(RequestError, match="pinned or in use"):
        commit_sample(store, tmp_path / "model-3", seed=3, size=12_000)
    store.usage.unpin(sample_key(1))
    with store.usage.lease(sample_key(1)), pytest.raises(RequestError, match="pinned or in use"):
        commit_sample(store, tmp_path / "model-3", seed=3, size=12_000)
    assert len(store.usage.quarantined()) == 1 and not store.usage.evictions()
    commit_sample(store, tmp_path / "model-3", seed=3, size=12_000)
    assert seeds_left(store) == {0, 3} and not store.usage.quarantined()
    assert "room was needed" in str(store.usage.evictions()[sample_key(1)]["why"])


def test_room_is_not_made_of_an_entry_that_is_hashed_in_the_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, count=1)
    real = inspect

    def inspect_slowly(*arguments: Any, **options: Any) -> Any:
        other = Store(store.layout.root)
        execute(other, plan(other, max_size=0, max_age=None))
        empty_quarantine(other, older_than=0.0)
        return real(*arguments, **options)

    monkeypatch.setattr("src.cache_manager.store.store.inspect", inspect_slowly)
    # Of an entry that has been replaced by a whole one since.
    store.quarantine(Finding(key=sample_key(0), state="corrupt"))
    monkeypatch.undo()
    assert store.lookup(sample_key(0)) is not None


def _commit_many(root: Path, scratch: Path, first: int, limit: int) -> None:
    store = Store(root, limit=limit)
    for seed in range(first, first + 12):
        commit_sample(store, scratch / str(seed), seed=seed, size=20_000)


def test_the_limit_holds_while_several_write(tmp_path: Path) -> None:
    limit = 100_000
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_commit_many, args=(tmp_path / "cache", tmp_path / "made", 100 * number, limit))
        for number in range(4)
    ]
    for writer in writers:
        writer.start()
    max_bytes, samples = 0, 0
    while any(writer.is_alive() for writer in writers):
        max_bytes, samples = max(max_bytes, bytes_on_disk(tmp_path / "cache")), samples + 1
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert samples > 20 and 60_000 < max_bytes <= limit, (samples, max_bytes)


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    store = filled(tmp_path, count=1)
    with store.staging() as staging:
        alive = staging.folder
        dead = alive.with_name(alive.name.replace(f".{os.getpid()}.", ".4194301."))
        dead.mkdir()
        (dead / "half").write_text("half")
        assert sweep(store) >= 1
        assert alive.exists() and not dead.exists()
    assert seeds_left(store) == {0}


def test_an_odd_claim_of_a_training_stops_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, count=1)
    store.layout.training.mkdir()
    for name, make in (("0", os.mkfifo), ("1", Path.mkdir)):
        make(store.layout.training / f"{name * 64}.claim")
    (store.layout.training / f"{'2' * 64}.claim").write_bytes(b"\xff")
    sweep(store)
    with claimed_training_folder(store.layout, "0" * 64) as folder:
        assert folder.name != "0" * 64, "it may be another process's"


def test_the_quarantine_is_kept_for_a_while(tmp_path: Path) -> None:
    store = filled(tmp_path, count=1)
    (store.path(sample_key(0)) / "config.json").unlink()
    # However old the entry is: the time in the quarantine counts.
    os.utime(store.path(sample_key(0)), (0, 0))
    store.lookup(sample_key(0))
    assert empty_quarantine(store) == 0 and not store.usage.evictions()
    assert empty_quarantine(store, older_than=0.0) == 1
    assert "quarantine" in str(store.usage.evictions()[sample_key(0)]["why"])


def test_no_blob_goes_that_may_repair_what_is_in_quarantine(tmp_path: Path) -> None:
    store = filled(tmp_path, count=1)
    (store.path(sample_key(0)) / "model.safetensors").unlink()
    store.lookup(sample_key(0))
    assert store.blobs.sweep() == 0 and [each.action for each in repair(store, [])] == ["restored"]
