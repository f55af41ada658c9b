"""A language model on its way to disk and back, with and without an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.cli.errors import RequestError
from src.training.model.base_model import BaseModel, find_base_model
from src.training.model.language_model import (
    check_targets_of,
    load_language_model,
    load_language_tokenizer,
    load_merged,
    load_with_adapter,
    save_language_model,
)
from src.training.model.lora import ALL_LINEAR, CAUSAL_LM, Lora, add_lora, check_moved, has_adapter_alone
from src.training.testing.tiny_kinds import build_tiny_chat_model
from src.training.testing.tiny_model import build_tiny_model

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tiny_chat_model(tmp_path / "base")


def find(folder: Path) -> BaseModel:
    return find_base_model(folder.name, folder=folder.parent)


def lora(*names: str) -> Lora:
    return Lora(r=2, alpha=4, dropout=0.0, target_modules=names or (ALL_LINEAR,))


def adapted(base: BaseModel, *names: str) -> Any:
    model = add_lora(load_language_model(base), lora(*names), seed=1, base_name="base", task_type=CAUSAL_LM)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    return model.eval()


@pytest.mark.parametrize("merged", [True, False])
def test_what_is_saved_answers_as_the_model_in_memory(folder: Path, tmp_path: Path, merged: bool) -> None:
    base, out = find(folder), tmp_path / "out"
    model, tokenizer = adapted(base), load_language_tokenizer(base)
    with torch.inference_mode():
        logits, before = model(input_ids=IDS).logits, load_language_model(base)(input_ids=IDS).logits
        save_language_model(model, tokenizer, out, stop_ids=[2, 0], merged=merged)
        assert has_adapter_alone(out) is not merged
        assert torch.allclose(load_with_adapter(base, out)(input_ids=IDS).logits, logits, atol=1e-5)
        if merged:
            assert torch.allclose(load_merged(out)(input_ids=IDS).logits, logits, atol=1e-5)
    assert not torch.allclose(before, logits, atol=1e-3)
    # No loader finds both in one folder.
    assert sorted(path.name for path in (out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert config["target_modules"] == sorted(config["target_modules"])
    generation = json.loads((out / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["pad_token_id"]) == ([2, 0], tokenizer.pad_token_id)
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert (out / "chat_template.jinja").is_file()


def test_an_adapter_that_did_not_move_is_not_kept(folder: Path) -> None:
    base = find(folder)
    untouched = add_lora(load_language_model(base), lora(), seed=1, base_name="base", task_type=CAUSAL_LM)
    with pytest.raises(RuntimeError, match="training left the adapter as it was"):
        check_moved(untouched)
    check_moved(adapted(base))
    check_moved(load_language_model(base))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("q_proj", "no_such_proj"), "no_such_proj: the model has no module of that name"),
        (("q_porj",), r"q_porj: the model has no module of that name \(did you mean q_proj\?\)"),
        (("q_proj", "norm"), "norm: an adapter is for a linear layer or an embedding"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_the_weights_are_read(
    folder: Path, names: tuple[str, ...], reason: str
) -> None:
    base = find(folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(RequestError, match=f"--lora_target_modules {reason}"):
        check_targets_of(base, lora(*names))
    check_targets_of(base, lora("q_proj", "v_proj"))


def _drop_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_adapter_on_a_tied_head_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    _drop_head(folder)
    for name in ("lm_head", "embed_tokens"):
        with pytest.raises(RequestError, match=f"{name}: this model's head is tied to its embeddings"):
            check_targets_of(find(folder), lora("q_proj", name))
        with pytest.raises(RequestError, match=f"{name}: this model's head is tied to its embeddings"):
            adapted(find(folder), "q_proj", name)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    base = find(build_tiny_model(tmp_path / "bert"))
    with pytest.raises(RequestError, match=r"bert is not a language model \(its config names BertModel\): choose one"):
        load_language_model(base)


def test_weights_that_are_missing_are_named(folder: Path) -> None:
    _drop_head(folder)
    with pytest.raises(RequestError, match=r"base lacks weights of a language model \(lm_head.weight\)"):
        load_language_model(find(folder))


def test_tokens_that_the_model_does_not_know_are_refused(folder: Path) -> None:
    tokenizer = load_language_tokenizer(find(folder))
    tokenizer.add_tokens(["<movie>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(RequestError, match=f"the tokenizer of base knows {len(tokenizer)} tokens, and the model has"):
        load_language_tokenizer(find(folder))


def test_the_base_is_named_as_it_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_TMPDIR", raising=False)
    names = {"some/model": "some/model", "../base": "../base", "embedded:it": str(tmp_path), "it.gguf": str(tmp_path)}
    for source, wanted in names.items():
        assert BaseModel(folder=tmp_path, content={"source": source}).loadable_name == wanted
