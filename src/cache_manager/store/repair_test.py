"""What a right copy exists of is restored, the rest quarantined; no bad entry makes a command fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from src.cache_manager.store.evict import plan
from src.cache_manager.store.manifest import MANIFEST, MANIFEST_COPY
from src.cache_manager.store.records import records
from src.cache_manager.store.repair import repair
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import COPY_PROBLEM, inspect
from src.cache_manager.testing.sample_entries import commit_sample, sample_key, sample_store

KEY = sample_key(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return sample_store(tmp_path, seeds=[0])


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def actions(store: Store) -> list[str]:
    return [each.action for each in repair(store, [])]


def test_a_sound_cache_needs_nothing(store: Store) -> None:
    assert actions(store) == []


def test_an_emptied_manifest_comes_back_from_its_copy(store: Store) -> None:
    overwrite(store.path(KEY) / MANIFEST, b"")
    assert inspect(store.layout, KEY).state == "corrupt"
    assert actions(store) == ["restored"]
    assert inspect(store.layout, KEY, every_byte=True).state == "ok" and not list(store.layout.quarantine.iterdir())


def test_a_file_that_is_gone_is_linked_again(store: Store) -> None:
    (store.path(KEY) / "model.safetensors").unlink()
    assert inspect(store.layout, KEY).state == "incomplete"
    assert actions(store) == ["restored"] and store.lookup(KEY) is not None


def test_flipped_bits_without_another_copy_are_quarantined(store: Store) -> None:
    weights = store.path(KEY) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    overwrite(weights, bytes(data))
    assert actions(store) == ["quarantined"]
    assert store.lookup(KEY) is None and len(list(store.layout.quarantine.iterdir())) == 1
    assert actions(store) == [], "what stays in quarantine is not reported again"


def test_flipped_bits_are_restored_from_a_file_with_other_blocks(store: Store) -> None:
    weights = store.path(KEY) / "model.safetensors"
    blob = next(path for path in store.blobs.all() if path.samefile(weights))
    shutil.copy(blob, blob.with_name("copy"))
    blob.with_name("copy").replace(blob)
    overwrite(weights, b"x" * weights.stat().st_size)
    assert actions(store) == ["restored"] and inspect(store.layout, KEY, every_byte=True).state == "ok"


def test_a_stray_file_is_no_part_of_what_comes_back(store: Store) -> None:
    (store.path(KEY) / "pytorch_model.bin").write_bytes(b"pickle")
    assert actions(store) == ["restored"]
    assert not (store.path(KEY) / "pytorch_model.bin").exists()


def test_entries_of_others_are_left_alone(store: Store) -> None:
    (store.layout.entries / "not-a-key").mkdir()
    overwrite(store.path(KEY) / MANIFEST, b'{"schema": 99}')
    assert sorted(actions(store)) == ["left alone", "left alone"]
    assert store.path(KEY).exists() and (store.layout.entries / "not-a-key").exists()


def test_a_damaged_copy_of_the_manifest_is_seen_and_written_again(store: Store) -> None:
    for damage in (lambda copy: overwrite(copy, b"{}"), Path.unlink):
        before = store.path(KEY).stat().st_ino
        damage(store.path(KEY) / MANIFEST_COPY)
        assert store.lookup(KEY) is not None, "no lookup needs it"
        assert inspect(store.layout, KEY, every_byte=True).problems == (COPY_PROBLEM,)
        assert actions(store) == ["restored"] and store.path(KEY).stat().st_ino == before
        assert inspect(store.layout, KEY, every_byte=True).state == "ok"


def spoil(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "sparse file"])
def test_an_odd_manifest_is_one_bad_row(store: Store, tmp_path: Path, kind: str) -> None:
    other = commit_sample(store, tmp_path / "other", seed=1)
    spoil(store.path(KEY) / MANIFEST, kind)
    states = {record.key: record.state for record in records(store)}
    assert states == {KEY: "corrupt", other: "ok"} and plan(store, max_size=0, max_age=None).evictions
    assert actions(store) == ["restored"] and store.lookup(KEY) and store.lookup(other)
    for name in (MANIFEST, MANIFEST_COPY):
        spoil(store.path(KEY) / name, kind)
    assert actions(store) == ["quarantined"] and actions(store) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "sparse file"])
def test_an_odd_blob_stops_nothing(store: Store, tmp_path: Path, kind: str) -> None:
    blobs = list(store.blobs.all())
    for blob in blobs:
        spoil(blob, kind)
    shutil.copytree(tmp_path / "model-0", tmp_path / "again")
    commit_sample(store, tmp_path / "again", seed=2)
    assert actions(store) == []
    assert all(blob.is_file() and blob.stat().st_nlink > 1 for blob in blobs), "those are made again"


def test_a_file_in_place_of_a_folder_of_blobs_stops_nothing(store: Store, tmp_path: Path) -> None:
    for folder in list(store.layout.blobs.iterdir()):
        shutil.rmtree(folder)
        folder.touch()
    (store.path(KEY) / "config.json").unlink()
    assert actions(store) == ["quarantined"]
    store.blobs.sweep()
    commit_sample(store, tmp_path / "model-0", seed=0)
    assert store.lookup(KEY) is not None


def test_what_is_linked_into_the_cache_is_not_its_own(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("f" * 64)).touch()
    (store.layout.blobs / "ff").symlink_to(outside)
    assert actions(store) == []
    store.blobs.sweep()
    assert (outside / ("f" * 64)).exists()


def forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a file system without links, where a copy takes room."""
    for module in ("blobs", "assemble"):
        monkeypatch.setattr(f"src.cache_manager.store.{module}.share", lambda *_: False)


@pytest.mark.parametrize("pinned", [True, False])
def test_the_only_right_copy_is_not_evicted_for_its_own_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    forbid_links(monkeypatch)
    monkeypatch.setattr("src.cache_manager.store.budget._ATTEMPTS", 1)
    store = sample_store(tmp_path, seeds=[0])
    if pinned:
        store.usage.pin(KEY)
        os.utime(store.layout.pins / KEY, (0, 0))
    overwrite(store.path(KEY) / MANIFEST, b"")
    used = store.budget.used()
    [repaired] = repair(Store(store.layout.root, limit=used + 1000), [])
    assert repaired.action == "quarantined" and "raise FINETUNE_CACHE_MAX_SIZE" in repaired.problems[-1]
    assert len(store.usage.quarantined()) == 1 and not store.usage.evictions()
    assert [each.action for each in repair(Store(store.layout.root, limit=3 * used), [])] == ["restored"]
    assert store.lookup(KEY) is not None and (KEY in store.usage.pinned()) is pinned


def test_what_is_read_to_repair_another_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_links(monkeypatch)
    store = sample_store(tmp_path, seeds=[1, 0])
    commit_sample(store, tmp_path / "model-2", seed=2, size=20_000)
    # The oldest entry alone still has the tokenizer.
    overwrite(store.path(KEY) / "tokenizer.json", b"x")
    overwrite(store.path(sample_key(2)) / "tokenizer.json", b"x")
    assert store.lookup(sample_key(2)) is None
    limit = store.budget.used() + 1000
    [repaired] = repair(Store(store.layout.root, limit=limit), [KEY])
    assert repaired.action == "restored" and store.lookup(sample_key(1)), "made of what was in quarantine"


def test_a_bad_blob_is_removed_and_made_again(store: Store) -> None:
    blob = next(store.blobs.all())
    blob.unlink()
    blob.write_bytes(b"other")
    assert actions(store) == []
    repair(store, [])
    assert blob.exists() and blob.read_bytes() != b"other"
