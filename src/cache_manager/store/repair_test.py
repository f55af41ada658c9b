"""What a right copy exists of is restored, the rest quarantined; no bad entry makes a command fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.cache_manager.store.manifest import MANIFEST
from src.cache_manager.store.repair import repair
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.sample_entries import sample_key, sample_store

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


def test_a_bad_blob_is_removed_and_made_again(store: Store) -> None:
    blob = next(store.blobs.all())
    blob.unlink()
    blob.write_bytes(b"other")
    assert actions(store) == []
    repair(store, [])
    assert blob.exists() and blob.read_bytes() != b"other"
