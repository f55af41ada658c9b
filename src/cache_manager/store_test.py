"""Entries are whole or they are misses."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
from pathlib import Path

import pytest

from src.cache_manager import manifest
from src.cache_manager.store import Store, default_root

KEY = "a" * 64


def committed(tmp_path: Path, text: str = "weights") -> tuple[Store, Path]:
    store = Store(tmp_path / "cache")
    return store, commit(store, text)


def commit(store: Store, text: str) -> Path:
    folder = store.workspace(KEY)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    return store.commit(folder, key=KEY, key_document={}, model_name="m")


def test_a_committed_folder_is_found_whole(tmp_path: Path) -> None:
    store, entry = committed(tmp_path)
    assert store.lookup(KEY) == entry
    assert [found.model_name for found, _ in store.entries() if found] == ["m"]
    assert not store.workspace(KEY).exists()


def test_a_folder_without_a_manifest_is_no_hit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path(KEY).mkdir(parents=True)
    (store.path(KEY) / "model.safetensors").write_text("half")
    assert store.lookup(KEY) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "link", "empty manifest"])
def test_a_damaged_entry_is_a_miss_and_put_aside(tmp_path: Path, damage: str) -> None:
    store, entry = committed(tmp_path)
    file = entry / "model.safetensors"
    if damage == "flip":
        file.write_text("weightz")
    elif damage == "truncate":
        file.write_text("wei")
    elif damage == "empty manifest":
        (entry / manifest.MANIFEST).write_text("")
    else:
        file.unlink()
        if damage == "link":
            (tmp_path / "elsewhere").write_text("weights")
            file.symlink_to(tmp_path / "elsewhere")
    assert store.lookup(KEY) is None
    assert not entry.exists(), "a bad entry must not stand in the way of a good one"
    assert len(list((tmp_path / "cache" / "v1" / "quarantine").iterdir())) == 1
    assert store.lookup(commit(store, "weights").name) is not None


def test_a_manifest_cannot_lead_out_of_its_entry(tmp_path: Path) -> None:
    store, entry = committed(tmp_path)
    (tmp_path / "cache" / "v1" / "secret").write_text("weights")
    text = (entry / manifest.MANIFEST).read_text().replace('"model.safetensors"', '"../../secret"')
    (entry / manifest.MANIFEST).write_text(text)
    assert store.lookup(KEY) is None


def test_the_second_of_two_commits_of_one_key_keeps_the_first(tmp_path: Path) -> None:
    store, entry = committed(tmp_path, "first")
    assert commit(store, "second") == entry
    assert (entry / "model.safetensors").read_text() == "first"


def _hold(root: Path, started: multiprocessing.synchronize.Event, ended: multiprocessing.synchronize.Event) -> None:
    with Store(root).lock(KEY):
        started.set()
        ended.wait(10)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, ended = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, started, ended))
    holder.start()
    assert started.wait(30)
    lock = Store(tmp_path).lock(KEY)
    with pytest.raises(TimeoutError):
        lock.acquire(timeout=0.2)
    holder.kill()
    holder.join()
    with lock.acquire(timeout=5):
        pass


def test_the_root_is_not_the_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FINETUNE_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert "huggingface" not in default_root().parts
    monkeypatch.setenv("FINETUNE_CACHE_DIR", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
