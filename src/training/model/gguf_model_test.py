"""A GGUF file as a base model: converted once, and refused in one sentence when it cannot be read."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize
from safetensors.torch import load_file

from src.cli.errors import RequestError
from src.disk.durable import file_sha256
from src.training.export_gguf import main
from src.training.gguf.convert import convert
from src.training.model import gguf_model
from src.training.model.base_model import find_base_model
from src.training.testing.tiny_kinds import build_tiny_chat_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama in 8 bits."""
    folder = tmp_path_factory.mktemp("exported")
    build_tiny_chat_model(folder / "model")
    path = folder / "tiny.gguf"
    assert main(["--model", str(folder / "model"), "--output", str(path), "--outtype", "q8_0"]) == 0
    return path


@pytest.fixture
def user_folder(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copy(exported, tmp_path / "tiny.gguf")
    return tmp_path


def refusal(folder: Path, name: str = "tiny.gguf", **options: Any) -> str:
    with pytest.raises(RequestError) as raised:
        find_base_model(name, folder=folder, **options)
    return str(raised.value)


def never(*_arguments: Any) -> None:
    raise AssertionError("converted again")


def test_quantised_values_are_those_that_gguf_reads(user_folder: Path) -> None:
    base = find_base_model("tiny.gguf", folder=user_folder)
    ours = load_file(base.folder / "model.safetensors")
    theirs = {tensor.name: tensor for tensor in GGUFReader(user_folder / "tiny.gguf").tensors}
    for name, gguf_name in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.1.mlp.down_proj.weight": "blk.1.ffn_down.weight",
    }.items():
        tensor = theirs[gguf_name]
        assert np.array_equal(ours[name].numpy(), dequantize(tensor.data, tensor.tensor_type))


def test_a_file_is_converted_once_wherever_it_is(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_base_model("tiny.gguf", folder=user_folder)
    assert first.content["source"] == "tiny.gguf"
    assert first.content["file_sha256"] == file_sha256(user_folder / "tiny.gguf")
    (user_folder / "tiny.gguf").rename(user_folder / "renamed.gguf")
    monkeypatch.setattr(gguf_model, "convert", never)
    again = find_base_model(str(user_folder / "renamed.gguf"), folder=Path("elsewhere"))
    assert (again.folder, again.content["sha256"]) == (first.folder, first.content["sha256"])


def test_a_damaged_cached_file_is_made_anew(user_folder: Path) -> None:
    first = find_base_model("tiny.gguf", folder=user_folder)
    (first.folder / "tokenizer.json").write_text("{}")
    assert find_base_model("tiny.gguf", folder=user_folder).content == first.content


def test_the_hash_of_the_file_is_what_a_recipe_may_name(user_folder: Path) -> None:
    sha256 = file_sha256(user_folder / "tiny.gguf")
    assert find_base_model("tiny.gguf", folder=user_folder, weights_sha256=sha256.upper()).folder.is_dir()
    assert f"tiny.gguf has sha256 {sha256}, not {'0' * 64}" in refusal(user_folder, weights_sha256="0" * 64)


def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(user_folder: Path) -> None:
    assert refusal(user_folder, "none.gguf") == "the base model none.gguf does not exist: check the path"


def test_a_folder_with_a_gguf_file_says_what_to_name(user_folder: Path) -> None:
    assert "its tiny.gguf is a base model: name the file" in refusal(user_folder, ".")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip file", b"GGML\x01\x00\x00\x00"])
def test_another_file_is_refused(user_folder: Path, content: bytes) -> None:
    (user_folder / "tiny.gguf").write_bytes(content)
    assert "tiny.gguf is not a GGUF file" in refusal(user_folder)


def write_keys(path: Path, architecture: str, **keys: Any) -> None:
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        writer.add_key_value(key.replace("__", "."), *value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def test_another_architecture_and_a_part_of_a_model_are_refused(user_folder: Path) -> None:
    from gguf import GGUFValueType

    write_keys(user_folder / "tiny.gguf", "gemma3")
    assert "holds a model of the architecture gemma3, and only llama is read" in refusal(user_folder)
    write_keys(user_folder / "tiny.gguf", "llama")
    assert "tiny.gguf cannot be read: its metadata lack or contradict" in refusal(user_folder)
    write_keys(user_folder / "tiny.gguf", "llama", split__count=(3, GGUFValueType.UINT16))
    assert "is one of 3 parts: join them with llama.cpp's llama-gguf-split --merge" in refusal(user_folder)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"smollm", b"modern", "its tokenizer splits texts as 'modern', and known here are gpt-2, smollm"),
        (b"blk.1.ffn_up.weight", b"blk.9.ffn_up.weight", "blk.1.ffn_up.weight is missing, not (64, 32)"),
        (b"llama.block_count", b"llama.block_coun_", "its metadata lack or contradict 'llama.block_count'"),
        (b"\x00\x00gpt2", b"\x00\x00bert", "its tokenizer is of the kind 'bert'"),
    ],
)
def test_what_is_not_known_here_is_refused(user_folder: Path, old: bytes, new: bytes, words: str) -> None:
    path = user_folder / "tiny.gguf"
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    assert words in refusal(user_folder)
    # Nothing half-made stays.
    assert not any((user_folder / "cache").rglob("*.json"))


def test_a_damaged_file_is_refused_wherever_the_damage_is(user_folder: Path, exported: Path) -> None:
    content = exported.read_bytes()
    path = user_folder / "tiny.gguf"
    header = len(content) - sum(tensor.n_bytes for tensor in GGUFReader(exported).tensors)
    drawn = random.Random(0)
    target = user_folder / "folder"
    target.mkdir()
    cuts = [*range(4, 200, 7), *(drawn.randrange(4, header) for _ in range(40)), len(content) - 100]
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(RequestError, match="tiny.gguf"):
            convert(path, target)
    for _ in range(150):
        damaged = bytearray(content)
        # Most of the header is the vocabulary; lengths and types stand in the first part of it.
        damaged[drawn.randrange(4, drawn.choice((1500, header)))] = drawn.randrange(256)
        path.write_bytes(damaged)
        try:
            convert(path, target)
        except RequestError as error:
            assert "tiny.gguf" in str(error)


def test_finding_a_base_in_a_file_loads_no_torch(user_folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from src.training.model.base_model import find_base_model; "
        "find_base_model('tiny.gguf', folder=Path(sys.argv[1])); print(*sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, str(user_folder)],
        env={"PYTHONPATH": ":".join(sys.path), "XDG_CACHE_HOME": str(user_folder / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"torch", "transformers"} & set(child.stdout.split())
