"""Entries are whole or they are misses."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import os
from pathlib import Path
from typing import Any

import pytest

from src.cache_manager.store import manifest
from src.cache_manager.store.document import digest_of
from src.cache_manager.store.layout import default_root
from src.cache_manager.store.store import CacheError, Store
from src.cache_manager.store.verify import inspect
from src.cli.errors import RequestError

DOCUMENT: dict[str, Any] = {"run": 1}
KEY = digest_of(DOCUMENT)


def commit(store: Store, text: str = "weights", *, document: dict[str, Any] | None = None) -> Path:
    folder = store.layout.root.parent / "made"
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(text)
    (folder / "sub" / "config.json").write_text("{}")
    files = {"model.safetensors": folder / "model.safetensors", "sub/config.json": folder / "sub" / "config.json"}
    return store.commit(files, document=document or DOCUMENT, model_name="m")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_committed_files_are_found_whole(store: Store) -> None:
    entry = commit(store)
    assert store.lookup(KEY) == entry == store.path(KEY)
    assert (entry / "model.safetensors").read_text() == "weights" and (entry / "sub" / "config.json").exists()
    assert inspect(store.layout, KEY, every_byte=True).state == "ok"
    assert not list(store.layout.incoming.iterdir())


def test_the_manifest_is_the_last_file_that_is_written(store: Store) -> None:
    entry = commit(store)
    times = {path.name: path.stat().st_mtime_ns for path in entry.rglob("*") if path.is_file()}
    assert times.pop(manifest.MANIFEST) >= max(times.values())


def test_entries_share_the_files_they_have_in_common(store: Store) -> None:
    first, second = commit(store), commit(store, document={"run": 2})
    assert (first / "model.safetensors").samefile(second / "model.safetensors")
    third = commit(store, "other weights", document={"run": 3})
    assert not (first / "model.safetensors").samefile(third / "model.safetensors")
    assert (first / "sub" / "config.json").samefile(third / "sub" / "config.json")


def test_a_bad_blob_is_not_shared(store: Store) -> None:
    first = commit(store)
    weights = first / "model.safetensors"
    weights.chmod(0o644)
    weights.write_text("weightz")
    second = commit(store, document={"run": 2})
    assert (second / "model.safetensors").read_text() == "weights"
    assert store.lookup(second.name) == second


def test_files_of_an_entry_cannot_be_written_by_accident(store: Store) -> None:
    mode = (commit(store) / "model.safetensors").stat().st_mode
    assert mode & 0o222 == 0


def test_a_folder_without_a_manifest_is_no_hit(store: Store) -> None:
    store.path(KEY).mkdir(parents=True)
    (store.path(KEY) / "model.safetensors").write_text("half")
    assert store.lookup(KEY) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "link", "empty manifest", "extra file"])
def test_a_damaged_entry_is_a_miss_and_quarantined(store: Store, tmp_path: Path, damage: str) -> None:
    entry = commit(store)
    file = entry / "model.safetensors"
    file.chmod(0o644)
    if damage == "flip":
        file.write_text("weightz")
    elif damage == "truncate":
        file.write_text("wei")
    elif damage == "empty manifest":
        (entry / manifest.MANIFEST).chmod(0o644)
        (entry / manifest.MANIFEST).write_text("")
    elif damage == "extra file":
        (entry / "adapter_config.json").write_text("{}")
    else:
        file.unlink()
        if damage == "link":
            (tmp_path / "elsewhere").write_text("weights")
            file.symlink_to(tmp_path / "elsewhere")
    assert store.lookup(KEY) is None
    assert not entry.exists(), "a bad entry must not stand in the way of a good one"
    assert len(list(store.layout.quarantine.iterdir())) == 1
    assert store.lookup(commit(store).name) is not None


def test_an_entry_with_new_inodes_is_hashed_once_more_and_then_trusted(store: Store) -> None:
    entry = commit(store)
    weights = entry / "model.safetensors"
    restored = weights.with_name("restored")
    restored.write_text("weights")
    restored.replace(weights)
    assert store.lookup(KEY) == entry
    assert (store.layout.checked / KEY).exists()
    restored.write_text("WEIGHTS")
    restored.replace(weights)
    assert store.lookup(KEY) is None, "a note of the old inode must not vouch for the new one"


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "a/../../secret", "manifest.json", "a\\b", ""])
def test_a_manifest_cannot_lead_out_of_its_entry(store: Store, name: str) -> None:
    entry = commit(store)
    path = entry / manifest.MANIFEST
    fields = json.loads(path.read_bytes())
    del fields["seal"]
    fields["files"][name] = fields["files"].pop("model.safetensors")
    path.chmod(0o644)
    path.write_bytes(manifest.seal_manifest(fields))
    assert "not allowed" in inspect(store.layout, KEY).problems[0]
    assert store.lookup(KEY) is None
    with pytest.raises(ValueError, match="not allowed"):
        store.commit({name: Path("/etc/hostname")}, document={"run": 9}, model_name="m")


def test_an_entry_of_another_version_is_left_alone(store: Store) -> None:
    entry = commit(store)
    path = entry / manifest.MANIFEST
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"schema":2', '"schema":3'))
    before = {file.name: file.stat().st_mtime_ns for file in entry.iterdir()}
    assert store.lookup(KEY) is None
    with pytest.raises(RequestError, match="another version"):
        commit(store)
    assert {file.name: file.stat().st_mtime_ns for file in entry.iterdir()} == before


def test_the_second_of_two_commits_of_one_key_keeps_the_first(store: Store) -> None:
    entry = commit(store, "first")
    assert commit(store, "second") == entry
    assert (entry / "model.safetensors").read_text() == "first"


def test_a_commit_replaces_a_bad_entry(store: Store) -> None:
    entry = commit(store)
    (entry / "model.safetensors").unlink()
    commit(store)
    assert store.lookup(KEY) == entry


def test_a_whole_entry_is_not_quarantined_for_what_was_in_its_place_before(store: Store) -> None:
    entry = commit(store)
    (entry / "model.safetensors").unlink()
    stale = inspect(store.layout, KEY)
    commit(store)
    store.quarantine(stale)
    assert store.lookup(KEY) == entry


def test_a_file_that_does_not_match_its_hash_is_not_kept(store: Store, tmp_path: Path) -> None:
    (tmp_path / "w").write_text("weights")
    with pytest.raises(RequestError, match="other bytes"):
        store.commit({"w": tmp_path / "w"}, document=DOCUMENT, model_name="m", hashes={"w": "0" * 64})
    assert store.lookup(KEY) is None and not list(store.layout.incoming.iterdir())


def test_prefixes_name_entries(store: Store) -> None:
    commit(store)
    assert store.resolve(KEY[:6].upper()) == KEY
    commit(store, document={"run": 2})
    with pytest.raises(RequestError, match="no entry"):
        store.resolve("nothing")
    with pytest.raises(RequestError, match="no entry"):
        store.resolve("")


def test_a_prefix_of_two_keys_is_refused(store: Store) -> None:
    for end in ("0", "1"):
        store.path("a" * 63 + end).mkdir(parents=True)
    with pytest.raises(RequestError, match="2 keys"):
        store.resolve("aaaa")


def test_a_full_disk_is_one_sentence_and_leaves_the_cache_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    entry = commit(store)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match="is full"):
        commit(store, "other", document={"run": 2})
    monkeypatch.undo()
    assert sorted(store.keys()) == [KEY] and store.lookup(KEY) == entry
    assert not list(store.layout.incoming.iterdir())


def _hold(root: Path, started: multiprocessing.synchronize.Event, ended: multiprocessing.synchronize.Event) -> None:
    with Store(root).lock(KEY):
        started.set()
        ended.wait(300)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, ended = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, started, ended))
    holder.start()
    assert started.wait(120)
    lock = Store(tmp_path).lock(KEY)
    with pytest.raises(TimeoutError):
        lock.acquire(timeout=0.2)
    holder.kill()
    holder.join()
    with lock.acquire(timeout=60):
        pass


def test_the_root_is_not_the_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FINETUNE_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert "huggingface" not in default_root().parts
    monkeypatch.setenv("FINETUNE_CACHE_DIR", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    monkeypatch.setenv("FINETUNE_CACHE_DIR", "mine")
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path / "typed-here"))
    assert default_root() == tmp_path / "typed-here" / "mine"
