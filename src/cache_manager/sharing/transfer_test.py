"""What comes in is checked and never executed; what goes out is whole and free of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cache_manager.sharing.transfer import export_entry, import_folder
from src.cache_manager.store.manifest import MANIFEST
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.sample_entries import commit_sample, sample_key, write_model_folder
from src.cli.errors import RequestError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_the_same_content_is_the_same_entry(store: Store, tmp_path: Path) -> None:
    first = import_folder(store, write_model_folder(tmp_path / "one", seed=1))
    second = import_folder(store, write_model_folder(tmp_path / "two", seed=1))
    other = import_folder(store, write_model_folder(tmp_path / "three", seed=2))
    assert first == second != other
    assert inspect(store.layout, first.name, every_byte=True).state == "ok"


def test_what_was_exported_keeps_its_key(store: Store, tmp_path: Path) -> None:
    key = commit_sample(store, tmp_path / "model", seed=1)
    folder = export_entry(store, key, tmp_path / "out" / "model")
    (folder / "config.json").open("a").close()
    elsewhere = Store(tmp_path / "elsewhere")
    entry = import_folder(elsewhere, folder)
    assert entry.name == key and elsewhere.lookup(key) == entry
    found = inspect(elsewhere.layout, key).manifest
    assert found is not None and found.model_name == "sample-1" and found.revision == "r"


def test_an_export_that_was_changed_is_not_taken_for_the_original(store: Store, tmp_path: Path) -> None:
    folder = export_entry(store, commit_sample(store, tmp_path / "model", seed=1), tmp_path / "out")
    (folder / "model.safetensors").write_bytes(b"x" * (folder / "model.safetensors").stat().st_size)
    with pytest.raises(RequestError, match="other bytes"):
        import_folder(Store(tmp_path / "elsewhere"), folder)
    (folder / "extra.json").write_text("{}")
    with pytest.raises(RequestError, match=r"changed.*extra.json"):
        import_folder(Store(tmp_path / "elsewhere"), folder)
    (folder / MANIFEST).unlink()
    assert import_folder(Store(tmp_path / "elsewhere"), folder).name != sample_key(1)


def test_changing_an_export_changes_nothing_in_the_cache(store: Store, tmp_path: Path) -> None:
    key = commit_sample(store, tmp_path / "model", seed=1)
    folder = export_entry(store, key, tmp_path / "out")
    (folder / "model.safetensors").write_bytes(b"mine now")
    assert inspect(store.layout, key, every_byte=True).state == "ok"


def test_an_export_never_overwrites(store: Store, tmp_path: Path) -> None:
    key = commit_sample(store, tmp_path / "model", seed=1)
    for taken in (tmp_path / "model", tmp_path / "model" / "config.json"):
        with pytest.raises(RequestError, match="already exists"):
            export_entry(store, key, taken)


def test_a_damaged_entry_is_not_exported(store: Store, tmp_path: Path) -> None:
    key = commit_sample(store, tmp_path / "model", seed=1)
    (store.path(key) / "config.json").unlink()
    with pytest.raises(RequestError, match="incomplete"):
        export_entry(store, key, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_pickle_is_taken_only_on_request(store: Store, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", seed=1)
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(RequestError, match="may run code"):
        import_folder(store, folder)
    assert not list(store.keys())
    assert (import_folder(store, folder, allow_pickle=True) / "training_args.bin").exists()


@pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "missing"])
def test_links_that_lead_out_are_refused(store: Store, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = write_model_folder(tmp_path / "model", seed=1)
    (folder / "vocab.txt").symlink_to(target)
    with pytest.raises(RequestError, match="link"):
        import_folder(store, folder)


def test_a_linked_folder_is_refused(store: Store, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", seed=1)
    (folder / "sub").symlink_to("/etc")
    with pytest.raises(RequestError, match="link"):
        import_folder(store, folder)


def test_a_snapshot_of_the_hub_cache_is_taken(store: Store, tmp_path: Path) -> None:
    real = write_model_folder(tmp_path / "real", seed=1)
    snapshot = tmp_path / "models--org--model" / "snapshots" / ("1" * 40)
    blobs = tmp_path / "models--org--model" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    for path in real.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / path.name)
    entry = import_folder(store, snapshot)
    assert not any(path.is_symlink() for path in entry.iterdir())
    found = inspect(store.layout, entry.name, every_byte=True)
    assert found.state == "ok" and found.manifest is not None
    assert (found.manifest.model_name, found.manifest.revision) == ("org/model", "1" * 40)


def test_a_folder_that_is_not_a_model_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.json").write_text("{}")
    for folder in (tmp_path / "notes", tmp_path / "missing"):
        with pytest.raises(RequestError, match="model"):
            import_folder(store, folder)
