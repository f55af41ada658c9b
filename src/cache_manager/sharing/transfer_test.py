"""What comes in is checked and never executed; what goes out is whole and free of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cache_manager.sharing.transfer import export_entry, import_folder
from src.cache_manager.store.manifest import MANIFEST
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.sample_entries import (
    commit_sample,
    safetensors_bytes,
    sample_key,
    write_model_folder,
)
from src.cli.errors import RequestError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_the_same_content_is_the_same_entry(store: Store, tmp_path: Path) -> None:
    first = import_folder(store, write_model_folder(tmp_path / "one", seed=1)).entry
    second = import_folder(store, write_model_folder(tmp_path / "two", seed=1)).entry
    other = import_folder(store, write_model_folder(tmp_path / "three", seed=2)).entry
    assert first == second != other
    assert inspect(store.layout, first.name, every_byte=True).state == "ok"


def test_what_was_exported_keeps_its_key(store: Store, tmp_path: Path) -> None:
    key = commit_sample(store, tmp_path / "model", seed=1)
    folder = export_entry(store, key, tmp_path / "out" / "model")
    (folder / "config.json").open("a").close()
    elsewhere = Store(tmp_path / "elsewhere")
    entry = import_folder(elsewhere, folder).entry
    assert entry.name == key and elsewhere.lookup(key) == entry
    found = inspect(elsewhere.layout, key).manifest
    assert found is not None and found.model_name == "sample-1" and found.revision == "r"


def test_an_export_that_was_changed_is_not_taken_for_the_original(store: Store, tmp_path: Path) -> None:
    folder = export_entry(store, commit_sample(store, tmp_path / "model", seed=1), tmp_path / "out")
    write_model_folder(folder, seed=2)
    with pytest.raises(RequestError, match="other bytes"):
        import_folder(Store(tmp_path / "elsewhere"), folder)
    (folder / "vocab.json").write_text("{}")
    with pytest.raises(RequestError, match=r"changed.*vocab.json"):
        import_folder(Store(tmp_path / "elsewhere"), folder)
    (folder / MANIFEST).unlink()
    assert import_folder(Store(tmp_path / "elsewhere"), folder).entry.name != sample_key(1)


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


def test_what_is_no_part_of_a_model_is_left_out(store: Store, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", seed=1)
    alone = import_folder(store, folder)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx")
    (folder / "sub").symlink_to("/etc")
    for name in ("evil.py", "BUILD", ".bashrc", "training_args.bin", "pytorch_model.bin", "adapter_config.json"):
        (folder / name).write_bytes(b"\x80\x04.")
    more = import_folder(store, folder)
    assert more.entry == alone.entry and alone.left_out == ()
    assert len(more.left_out) == 8 and {"onnx/", "sub", ".bashrc", "pytorch_model.bin"} < set(more.left_out)
    (folder / "README.md").write_text("A card.")
    (folder / "generation_config.json").write_text("{}")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(safetensors_bytes(b"w"))
    (folder / "adapter" / "odd.py").touch()
    last = import_folder(store, folder)
    names = {path.relative_to(last.entry).as_posix() for path in last.entry.rglob("*")}
    assert {"README.md", "generation_config.json", "adapter/adapter_model.safetensors"} < names
    assert "adapter/odd.py" in last.left_out and "adapter/odd.py" not in names


def test_pickled_weights_are_taken_only_on_request(store: Store, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", seed=1)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "optimizer.pt").touch()
    with pytest.raises(RequestError, match=r"pytorch_model.bin, which may run code.*--allow_pickle"):
        import_folder(store, folder)
    assert not list(store.keys())
    imported = import_folder(store, folder, allow_pickle=True)
    assert (imported.entry / "pytorch_model.bin").exists() and imported.left_out == ("optimizer.pt",)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.json", b"[]", "not an object"),
        ("config.json", b'{"auto_map": {"AutoModel": "evil.M"}}', "Python code of its own"),
        ("model.safetensors", b"\xff" * 99, "damaged weights"),
        ("model.safetensors.index.json", b'{"weight_map": 1}', "not an index"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "../../secret"}}', "secret' is missing"),
    ],
)
def test_a_model_that_is_not_whole_or_brings_code_is_refused(
    store: Store, tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    folder = write_model_folder(tmp_path / "model", seed=1)
    (folder / name).write_bytes(content)
    with pytest.raises(RequestError, match=expected):
        import_folder(store, folder)


@pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "missing"])
def test_links_that_lead_out_are_refused(store: Store, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = write_model_folder(tmp_path / "model", seed=1)
    (folder / "vocab.txt").symlink_to(target)
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
    entry = import_folder(store, snapshot).entry
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
