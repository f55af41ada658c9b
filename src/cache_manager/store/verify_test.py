"""States of entries: what is seen without reading every byte, and what only reading shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from src.cache_manager.store.manifest import MANIFEST, seal_manifest
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.sample_entries import sample_key, sample_store

KEY = sample_key(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return sample_store(tmp_path, seeds=[0])


def flip(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))


def test_a_flipped_bit_is_seen_at_once(store: Store) -> None:
    flip(store.path(KEY) / "model.safetensors")
    found = inspect(store.layout, KEY)
    assert found.state == "corrupt" and found.bad_files == ("model.safetensors",)


def test_rot_that_leaves_no_trace_is_seen_by_reading_every_byte(store: Store) -> None:
    weights = store.path(KEY) / "model.safetensors"
    before = weights.stat()
    flip(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert inspect(store.layout, KEY).state == "ok"
    assert inspect(store.layout, KEY, every_byte=True).state == "corrupt"


def test_a_missing_file_is_incomplete_and_a_missing_manifest_too(store: Store) -> None:
    (store.path(KEY) / "config.json").unlink()
    assert inspect(store.layout, KEY).state == "incomplete"
    (store.path(KEY) / MANIFEST).unlink()
    assert inspect(store.layout, KEY).state == "incomplete"


def test_a_key_that_is_not_the_hash_of_its_document_is_corrupt(store: Store) -> None:
    fields = json.loads((store.path(KEY) / MANIFEST).read_bytes())
    del fields["seal"]
    fields["key"] = other = "0" * 64
    store.path(KEY).rename(store.path(other))
    manifest = store.path(other) / MANIFEST
    manifest.chmod(0o644)
    manifest.write_bytes(seal_manifest(fields))
    assert "document" in inspect(store.layout, other, every_byte=True).problems[0]


def test_any_flipped_bit_of_the_manifest_is_seen_at_once(store: Store) -> None:
    manifest = store.path(KEY) / MANIFEST
    manifest.chmod(0o644)
    whole = manifest.read_bytes()
    for at in range(0, len(whole), 7):
        manifest.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert inspect(store.layout, KEY).state in ("corrupt", "foreign"), at


@pytest.mark.parametrize(
    "text", ["", "\0\0\0", "[]", "null", '{"schema": 2}', '{"schema": 2, "files": {"a": 1}}', "[" * 5000]
)
def test_no_manifest_makes_a_command_fall_over(store: Store, text: str) -> None:
    manifest = store.path(KEY) / MANIFEST
    manifest.chmod(0o644)
    manifest.write_text(text)
    assert inspect(store.layout, KEY).state == "corrupt"


def test_a_link_or_a_file_in_an_entry_s_place_is_foreign(store: Store, tmp_path: Path) -> None:
    link, file = "1" * 64, "2" * 64
    store.path(link).symlink_to(tmp_path)
    store.path(file).write_text("file")
    assert inspect(store.layout, link).state == inspect(store.layout, file).state == "foreign"
    assert store.lookup(link) is None and store.path(link).is_symlink()
