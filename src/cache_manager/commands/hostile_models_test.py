"""Whatever is thrown at `import` and `pull`: only files of a model arrive, nothing runs, a refusal is one sentence."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.cache_manager.commands.program import build_parser, run_command
from src.cache_manager.sharing.shared_cache import SharedCache
from src.cache_manager.store.document import digest_of, import_document
from src.cache_manager.store.manifest import MANIFEST, MANIFEST_COPY, seal_manifest
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.sample_entries import commit_sample, write_model_folder
from src.disk.durable import delete
from src.disk.testing.malicious_returns import odd_files, odd_folders, odd_texts, wrong_types

PARSED = ("config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors.index.json")
GOOD = {*PARSED, "tokenizer.json", "model.safetensors", MANIFEST, MANIFEST_COPY}


class Door:
    """A cache, and the folder of the user who types the commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.model, self.shared, self.marker = folder / "model", folder / "shared" / "v2", folder / "ran"
        self.codes: dict[str, int] = {}

    def knock(self, animal: str, *command: str) -> None:
        """Runs a command with an empty cache and checks what it left."""
        code = run_command(list(command))
        shown, cache = self._capsys.readouterr(), self.folder / "cache"
        beside = {path.name for path in self.folder.iterdir()}
        assert beside <= {"model", "cache", "shared"}, f"{animal}: it ran, or led out"
        assert (shown.out + shown.err).replace("\n", "").isprintable(), animal
        entries = list((cache / "v2" / "entries").glob("*"))
        if code == 0:
            found = inspect(Store(cache).layout, entries[0].name, every_byte=True)
            assert shown.err == "" and len(entries) == 1 and found.state == "ok", animal
            assert {path.name for path in entries[0].rglob("*")} <= GOOD, animal
        else:
            assert (code, shown.out, shown.err.count("\n"), entries) == (2, "", 1, []), f"{animal}: {code} {shown.err}"
            assert len(shown.err) < 1000 and not list((cache / "v2" / "incoming").glob("*")), animal
        shutil.rmtree(cache, ignore_errors=True)
        self.codes[animal] = code

    def refused(self) -> set[str]:
        return {animal for animal, code in self.codes.items() if code == 2}


@pytest.fixture
def door(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Door:
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("FINETUNE_CACHE_DIR", "cache")
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path / "user"))
    monkeypatch.delenv("FINETUNE_CACHE_MAX_SIZE", raising=False)
    # For a thousand commands: power cuts are not part of this, and one parser will do.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("src.cache_manager.commands.program.build_parser", functools.cache(build_parser))
    return Door(tmp_path / "user", capsys)


@pytest.fixture
def key(door: Door, tmp_path: Path) -> str:
    """The key of a good model in the shared cache, of which `model` is an export."""
    store = Store(tmp_path / "elsewhere")
    made = commit_sample(store, door.model, seed=1)
    SharedCache(str(door.folder / "shared")).push(store, made)
    shutil.copy(store.path(made) / MANIFEST, door.model)
    return made


def fields_of(manifest: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(manifest.read_bytes())
    del fields["seal"]
    return fields


def test_import_leaves_out_what_is_no_part_of_a_model(door: Door) -> None:
    for animal, spoil in odd_folders(door.marker):
        spoil(write_model_folder(door.model, seed=1))
        door.knock(animal, "import", "model")
        shutil.rmtree(door.model)
    kinds = ("to a file", "to nothing", "to itself", "to a device")
    assert door.refused() == {*(f"link {kind}" for kind in kinds), "named pipe", "more than the disk holds"}
    assert len(door.codes) > 70


@pytest.mark.parametrize("name", [*PARSED, MANIFEST])
def test_import_refuses_what_is_not_json(door: Door, name: str) -> None:
    for animal, text in odd_texts().items():
        write_model_folder(door.model, seed=1)
        (door.model / name).write_bytes(text)
        door.knock(animal, "import", "model")
    assert set(door.codes.values()) == {2}


def test_a_wrong_type_is_refused_or_harmless(door: Door, key: str) -> None:
    for animal, wrong in wrong_types(fields_of(door.shared / key / MANIFEST)):
        for manifest in (door.model / MANIFEST, door.shared / key / MANIFEST):
            manifest.write_bytes(seal_manifest(wrong))
        door.knock(f"import {animal}", "import", "model")
        door.knock(f"pull {animal}", "pull", key, "shared")
    (door.model / MANIFEST).unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": {"w": "model.safetensors"}}
    for name, document in (("model.safetensors.index.json", index), ("config.json", {"architectures": ["None"]})):
        for animal, wrong in wrong_types(document):
            write_model_folder(door.model, seed=1)
            (door.model / name).write_text(json.dumps(wrong))
            door.knock(f"{name}: {animal}", "import", "model")
        (door.model / name).unlink()
    assert len(door.codes) > 300 and len(door.refused()) > 200


def test_pull_takes_no_other_file(door: Door, key: str) -> None:
    manifest = door.shared / key / MANIFEST
    fields = fields_of(manifest)
    names = [
        "../out",
        "/out",
        "a/../../out",
        "config.json/x",
        f"{MANIFEST}/x",
        "x/" * 3000,
        "",
        ".",
        "\ud800",
        "x" * 300,
    ]
    for name, content in {**odd_files(door.marker), **dict.fromkeys(names, b"{}")}.items():
        digest = hashlib.sha256(content).hexdigest()
        blob = door.shared / "blobs" / digest[:2] / digest
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(content)
        listed = {"sha256": digest, "size": len(content), "inode": 0, "mtime_ns": 0}
        manifest.write_bytes(seal_manifest({**fields, "files": {**fields["files"], name: listed}}))
        door.knock(repr(name), "pull", key, "shared")
    assert len(door.refused()) == len(door.codes) > 60


def test_pull_refuses_what_only_looks_like_a_model(door: Door, key: str) -> None:
    manifest = door.shared / key / MANIFEST
    fields = fields_of(manifest)

    def pull(animal: str, *, name: str, content: bytes | None = None, size: int | None = None) -> None:
        files = dict(fields["files"])
        data = b"" if content is None else content
        digest = hashlib.sha256(data).hexdigest() if content is not None else files[name]["sha256"]
        blob = door.shared / "blobs" / digest[:2] / digest
        if content is not None:
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes(content)
        files[name] = {**files[name], "sha256": digest, "size": len(data) if size is None else size}
        manifest.write_bytes(seal_manifest({**fields, "files": files}))
        door.knock(animal, "pull", key, "shared")

    pull("code of its own", name="config.json", content=b'{"auto_map": {"AutoModel": "evil.M"}}')
    pull("no config", name="config.json", content=b"[]")
    pull("no safetensors", name="model.safetensors", content=b"\x80\x04.")
    pull("a bomb of weights", name="model.safetensors", size=10**15)
    pull("a bomb of text", name="tokenizer.json", size=1 << 30)
    hashes = {name: file["sha256"] for name, file in fields["files"].items()}
    document = import_document({**hashes, "config.json": "0" * 64})
    other = digest_of(document)
    (door.shared / other).mkdir()
    (door.shared / other / MANIFEST).write_bytes(seal_manifest({**fields, "key": other, "document": document}))
    door.knock("an import of other files", "pull", other, "shared")
    assert set(door.codes.values()) == {2}


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _writing(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def test_pull_waits_for_nothing(door: Door, key: str) -> None:
    kinds: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "sparse": _sparse,
        **{name: _writing(text) for name, text in odd_texts().items()},
    }
    manifest = door.shared / key / MANIFEST
    [weights] = [path for path in (door.shared / "blobs").glob("*/*") if path.stat().st_size > 4096]
    for path in (weights, manifest):
        for animal, put in kinds.items():
            delete(path)
            put(path)
            door.knock(f"{path.name}: {animal}", "pull", key, "shared")
    assert set(door.codes.values()) == {2}


def test_a_name_is_plain_text(door: Door, key: str) -> None:
    write_model_folder(door.model, seed=1)
    for name in ("\x1b[2J", "a\nforged", "\udcff", "\u202egnp", "x" * 5000):
        door.knock(f"import {name[:9]!a}", "import", "model", "--name", name)
        fields = fields_of(door.shared / key / MANIFEST)
        (door.shared / key / MANIFEST).write_bytes(seal_manifest({**fields, "model_name": name}))
        door.knock(f"pull {name[:9]!a}", "pull", key, "shared")
    assert set(door.codes.values()) == {2}
