"""What the cache loads is what from_pretrained loads, from safetensors only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from src.cache_manager.loading import load_model, load_tokenizer
from src.cli.errors import RequestError
from src.disk.testing.malicious_returns import wrong_types
from src.training.testing.tiny_model import build_tiny_model

_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_KINDS = {
    "BertForSequenceClassification": ("BertConfig", _SMALL),
    "RobertaForSequenceClassification": ("RobertaConfig", _SMALL),
    "ModernBertForSequenceClassification": (
        "ModernBertConfig",
        {**_SMALL, **_IDS, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "DistilBertForSequenceClassification": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
    ),
    "LlamaForCausalLM": ("LlamaConfig", {**_SMALL, **_IDS, "tie_word_embeddings": True}),
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}),
}


def tensors(model: Any) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", _KINDS)
def test_every_tensor_is_that_of_from_pretrained(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    config_name, fields = _KINDS[name]
    kind = getattr(transformers, name)
    made = kind(getattr(transformers, config_name)(vocab_size=100, **fields)).to(dtype)
    made.save_pretrained(tmp_path)
    opened, usual = load_model(tmp_path), kind.from_pretrained(tmp_path)
    ours, theirs = tensors(opened), tensors(usual)
    assert ours.keys() == theirs.keys()
    for each, tensor in theirs.items():
        assert ours[each].dtype == tensor.dtype and torch.equal(ours[each], tensor), each
        assert ours[each].requires_grad == tensor.requires_grad
    assert not opened.training and opened.config.to_dict() == usual.config.to_dict()
    rows = {"input_ids": torch.arange(3, 13)[None]}
    assert torch.equal(opened(**rows).logits, usual(**rows).logits)


def test_training_goes_on_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = build_tiny_model(tmp_path / "model", head=2) / "model.safetensors"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    model: Any = load_model(tmp_path / "model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(input_ids=torch.arange(4)[None], labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    assert not torch.equal(model.classifier.weight, tensors(load_model(tmp_path / "model"))["classifier.weight"])
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_weights_are_converted_to_the_type_that_the_config_names(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert load_model(folder).dtype == torch.bfloat16


def test_shards_are_opened_together(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    usual = transformers.BertForSequenceClassification.from_pretrained(folder)
    usual.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    opened = tensors(load_model(tmp_path / "shards"))
    assert all(torch.equal(opened[name], tensor) for name, tensor in tensors(usual).items())


def test_a_shard_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"w": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RequestError, match="no whole set"):
        load_model(folder)


def test_code_and_pickles_are_not_executed(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "pickled", head=2, pickled=True)
    with pytest.raises(RequestError, match="pickles are not loaded"):
        load_model(folder)
    folder = build_tiny_model(tmp_path / "code", head=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    evil = {"auto_map": {"AutoConfig": "modeling_evil.C", "AutoModel": "modeling_evil.M"}}
    (folder / "config.json").write_text(json.dumps({**config, **evil}))
    for load in (load_model, load_tokenizer):
        with pytest.raises(RequestError, match=r"needs Python code of its own \(config.json has auto_map\)"):
            load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_is_loaded(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    usual = transformers.AutoTokenizer.from_pretrained(folder)
    assert load_tokenizer(folder)("good film")["input_ids"] == usual("good film")["input_ids"]


def test_a_model_that_lacks_weights_is_refused_and_not_filled_at_random(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RequestError, match=r"lacks weights of its model \(classifier.weight\): train or import it"):
        load_model(folder)


def test_a_wrong_type_in_a_config_is_one_sentence(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    rest = json.loads((folder / "config.json").read_text())
    few = {name: rest.pop(name) for name in ("architectures", "model_type", "hidden_act")}
    refused = 0
    for _, wrong in wrong_types(few):
        (folder / "config.json").write_text(json.dumps({**rest, **wrong} if isinstance(wrong, dict) else wrong))
        try:
            load_model(folder)
        except RequestError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("damage", ["garbage", "truncated"])
def test_damaged_weights_are_refused_in_a_sentence_that_names_the_cure(tmp_path: Path, damage: str) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 100 if damage == "garbage" else weights.read_bytes()[:-100])
    with pytest.raises(RequestError, match="damaged weights .*`verify` and `repair` it"):
        load_model(folder)
