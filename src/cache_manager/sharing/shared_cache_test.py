"""A shared cache: what arrives is what was sent, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.cache_manager.sharing.shared_cache import SharedCache
from src.cache_manager.store.manifest import seal_manifest
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.sample_entries import commit_sample, sample_key, sample_store, write_model_folder
from src.cli.errors import RequestError

KEY = sample_key(1)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "shared").as_uri()


@pytest.fixture
def mine(tmp_path: Path) -> Store:
    return sample_store(tmp_path, seeds=[1])


def blobs(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "shared" / "v2" / "blobs").rglob("*") if path.is_file())


def test_what_one_pushes_another_pulls(mine: Store, url: str, tmp_path: Path) -> None:
    sent = SharedCache(url).push(mine, KEY)
    assert sent.files == 3
    theirs = Store(tmp_path / "theirs")
    assert SharedCache(url).resolve(KEY[:8]) == KEY
    assert SharedCache(url).pull(theirs, KEY).bytes == sent.bytes
    assert inspect(theirs.layout, KEY, every_byte=True).state == "ok" and theirs.lookup(KEY)
    assert not list(theirs.layout.incoming.iterdir())


def test_it_works_over_any_file_system_of_fsspec(mine: Store, tmp_path: Path) -> None:
    shared = SharedCache("memory://team/cache")
    shared.push(mine, KEY)
    theirs = Store(tmp_path / "theirs")
    shared.pull(theirs, shared.resolve(KEY[:8]))
    assert inspect(theirs.layout, KEY, every_byte=True).state == "ok"


def test_no_content_is_sent_twice(mine: Store, url: str, tmp_path: Path) -> None:
    SharedCache(url).push(mine, KEY)
    assert SharedCache(url).push(mine, KEY).files == 0
    other = commit_sample(mine, tmp_path / "model-2", seed=2)
    assert SharedCache(url).push(mine, other).files == 2, "the tokenizer is already present"
    theirs = Store(tmp_path / "theirs")
    SharedCache(url).pull(theirs, KEY)
    assert SharedCache(url).pull(theirs, other).files == 2
    assert SharedCache(url).pull(theirs, other).files == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "lengthen", "remove"])
def test_what_was_damaged_in_the_shared_cache_is_not_kept(mine: Store, url: str, tmp_path: Path, damage: str) -> None:
    SharedCache(url).push(mine, KEY)
    blob = max(blobs(tmp_path), key=lambda path: path.stat().st_size)
    data = blob.read_bytes()
    blob.unlink()
    changed = {"flip": data[:-1] + b"\0" if data[-1] else data[:-1] + b"\1", "truncate": data[:9], "lengthen": data * 9}
    if damage in changed:
        blob.write_bytes(changed[damage])
    theirs = Store(tmp_path / "theirs")
    if damage == "lengthen":
        # Only so much is read as the manifest says and was reserved.
        SharedCache(url).pull(theirs, KEY)
        assert inspect(theirs.layout, KEY, every_byte=True).state == "ok"
        return
    with pytest.raises(RequestError, match="missing or has other bytes"):
        SharedCache(url).pull(theirs, KEY)
    assert theirs.lookup(KEY) is None and not list(theirs.layout.incoming.iterdir())
    SharedCache(url).push(mine, KEY, force=True)
    assert SharedCache(url).pull(theirs, KEY).files > 0


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped", "a/../../escaped"])
def test_a_manifest_of_the_shared_cache_cannot_lead_out(mine: Store, url: str, tmp_path: Path, name: str) -> None:
    SharedCache(url).push(mine, KEY)
    manifest = tmp_path / "shared" / "v2" / KEY / "manifest.json"
    fields = json.loads(manifest.read_bytes())
    del fields["seal"]
    fields["files"][name] = fields["files"].pop("config.json")
    manifest.write_bytes(seal_manifest(fields))
    with pytest.raises(RequestError, match="not allowed"):
        SharedCache(url).pull(Store(tmp_path / "theirs"), KEY)
    assert not list(tmp_path.rglob("escaped"))


def test_a_manifest_of_another_key_is_not_taken(mine: Store, url: str, tmp_path: Path) -> None:
    SharedCache(url).push(mine, KEY)
    other = tmp_path / "shared" / "v2" / ("0" * 64)
    (tmp_path / "shared" / "v2" / KEY).rename(other)
    with pytest.raises(RequestError, match="does not hash to its key"):
        SharedCache(url).pull(Store(tmp_path / "theirs"), "0" * 64)
    with pytest.raises(RequestError, match="push it first"):
        SharedCache(url).pull(Store(tmp_path / "theirs"), KEY)


def test_a_pull_keeps_the_limit(mine: Store, url: str, tmp_path: Path) -> None:
    write_model_folder(tmp_path / "model", seed=1)
    SharedCache(url).push(mine, KEY)
    with pytest.raises(RequestError, match="does not fit"):
        SharedCache(url).pull(Store(tmp_path / "theirs", limit=3000), KEY)


def test_a_url_that_needs_a_package_says_which(mine: Store) -> None:
    del mine
    with pytest.raises(RequestError, match="s3fs"):
        SharedCache("s3://bucket/cache")
    with pytest.raises(RequestError, match="not a URL"):
        SharedCache("nothing://cache")


def test_an_unknown_prefix_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="0 keys"):
        SharedCache(url).resolve("abc")
