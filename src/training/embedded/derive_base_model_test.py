"""The derived base model: same bits everywhere, loads in transformers, ships nothing untrained."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from src.training.embedded import derive_base_model, locate, minilm, pins, projected_model


@pytest.fixture(scope="module")
def base() -> Path:
    return locate.embedded_model("bert_tiny_minilm")


def classifier(folder: Path, *, labels: int, seed: int) -> Any:
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels).eval()


def logits(folder: Path, *, labels: int, seed: int) -> torch.Tensor:
    inputs = AutoTokenizer.from_pretrained(folder)(["a fine film", "dull"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return classifier(folder, labels=labels, seed=seed)(**inputs).logits


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_NUM_THREADS": "3", "OPENBLAS_CORETYPE": "Sandybridge", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
    ],
    ids=lambda environment: " ".join(f"{key}={value}" for key, value in environment.items()),
)
def test_bits_do_not_depend_on_threads_or_instruction_set(tmp_path: Path, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "src.training.embedded.derive_base_model", "--out_dir", str(tmp_path)],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert found == pins.BERT_TINY_MINILM


def test_axes_are_far_enough_from_rounding_boundaries() -> None:
    _, basis = projected_model.project_embeddings(minilm.minilm_folder() / "model.safetensors")
    # Seven OpenBLAS kernels, with one thread and two, were seen to differ by up to 2.4e-13.
    assert basis.margin > 1e-10
    assert 0.66 < basis.explained < 0.67


def test_other_weights_are_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(minilm.minilm_folder(), changed)
    with (changed / "model.safetensors").open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x01")
    monkeypatch.setattr(derive_base_model, "minilm_folder", lambda: changed)
    assert derive_base_model.main(["--out_dir", str(tmp_path / "out")]) == 1
    assert "model.safetensors is not the pinned file" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("labels", [2, 3])
def test_same_seed_gives_the_same_logits(base: Path, labels: int) -> None:
    first, again = logits(base, labels=labels, seed=5), logits(base, labels=labels, seed=5)
    assert first.shape == (2, labels)
    assert torch.equal(first, again)
    assert not torch.equal(first, logits(base, labels=labels, seed=6))


def test_only_embeddings_are_stored_so_nothing_untrained_passes_for_trained(base: Path) -> None:
    with safe_open(str(base / "model.safetensors"), framework="pt") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    assert shapes == {
        "bert.embeddings.position_embeddings.weight": (512, 128),
        "bert.embeddings.token_type_embeddings.weight": (2, 128),
        "bert.embeddings.word_embeddings.weight": (30522, 128),
    }


def test_model_has_the_shape_of_bert_tiny_in_float32(base: Path) -> None:
    model = classifier(base, labels=2, seed=0)
    assert (model.config.num_hidden_layers, model.config.hidden_size, model.config.num_attention_heads) == (2, 128, 2)
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_386_178


def test_loaded_embeddings_are_the_stored_ones(base: Path) -> None:
    with safe_open(str(base / "model.safetensors"), framework="pt") as opened:
        stored = opened.get_tensor("bert.embeddings.word_embeddings.weight")
    assert torch.equal(classifier(base, labels=2, seed=0).bert.embeddings.word_embeddings.weight, stored)


def test_similar_words_are_closer_than_unlike_ones(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    words = classifier(base, labels=2, seed=0).bert.embeddings.word_embeddings.weight.detach()
    good, great, table = (words[tokenizer.convert_tokens_to_ids(word)] for word in ("good", "great", "table"))
    assert torch.cosine_similarity(good, great, dim=0) > 0.3 + torch.cosine_similarity(good, table, dim=0)


def test_tokens_are_minilms_without_its_fixed_padding_and_truncation(base: Path) -> None:
    texts = ["Hello W\u00f6rld, isn't it [MASK] fine?", "\u6f22\u5b57 ok", "x " * 300]
    ours, theirs = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(minilm.minilm_folder())
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]
    assert [len(ids) for ids in ours(texts)["input_ids"]] == [12, 5, 302]
    stored = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    assert (stored["padding"], stored["truncation"]) == (None, None)


def test_readme_says_what_it_is_and_is_not(base: Path) -> None:
    readme = (base / "README.md").read_text(encoding="utf-8")
    for needed in (
        "license: apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2",
        "layers are not",
        "is not that model",
    ):
        assert needed in readme
