"""The model that a run starts from: which files are trusted, and what is built of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from src.cli.errors import RequestError
from src.disk.durable import file_sha256
from src.training.model.base_model import BaseModel, build_model, find_base_model
from src.training.testing.mapped_kinds import build_mapped_kind
from src.training.testing.tiny_model import POSITIONS, build_tiny_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return build_tiny_model(tmp_path / "base")


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    return build_tiny_model(tmp_path / "pickled", pickled=True)


def find(folder: Path, sha256: str | None = None) -> BaseModel:
    return find_base_model(folder.name, folder=folder.parent, weights_sha256=sha256)


def refusal(folder: Path, sha256: str | None = None) -> str:
    with pytest.raises(RequestError) as raised:
        find(folder, sha256)
    return str(raised.value)


def build(folder: Path, *, names: tuple[str, ...] = ("bad", "good"), seed: int = 1, sha256: str | None = None) -> Any:
    model, _ = build_model(find(folder, sha256), output_names=names, seed=seed, max_seq_length=POSITIONS)
    return model


def test_a_pickle_is_refused_unless_its_hash_is_named(pickled: Path) -> None:
    sha256 = file_sha256(pickled / "pytorch_model.bin")
    message = refusal(pickled)
    assert "has its weights in a pickle, which may run code" in message
    # The refusal says what to type.
    assert f"--model_weights_sha256 {sha256}" in message
    assert find(pickled, sha256).folder == pickled
    assert find(pickled, sha256.upper()).folder == pickled


def test_padding_is_named_where_a_model_of_texts_and_images_looks_for_it(tmp_path: Path) -> None:
    config = build(build_mapped_kind(tmp_path / "gemma3", "gemma3")).config
    assert not hasattr(config, "pad_token_id")
    assert config.text_config.pad_token_id == 0


def test_weights_of_a_trusted_pickle_are_those_of_safetensors(pickled: Path, base: Path) -> None:
    sha256 = file_sha256(pickled / "pytorch_model.bin")
    ours, theirs = build(pickled, sha256=sha256).state_dict(), build(base).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["base", "pickled"])
def test_other_weights_than_the_named_ones_are_refused(name: str, tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / name, pickled=name == "pickled")
    assert f"not {'0' * 64} as in the recipe" in refusal(folder, "0" * 64)


def test_a_folder_without_config_or_weights_is_no_model(base: Path) -> None:
    config = (base / "config.json").read_bytes()
    (base / "config.json").unlink()
    assert "base has no config.json: it is not a transformers model" in refusal(base)
    (base / "config.json").write_bytes(config)
    (base / "model.safetensors").unlink()
    assert "base has no model.safetensors: there are no weights to start from" in refusal(base)


def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"the base model \./nowhere is not a folder: check the path"):
        find_base_model("./nowhere", folder=tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", '{"model_type": "nosuch"}'], ids=["torn", "empty", "unknown"])
def test_a_config_that_names_no_model_is_refused(base: Path, content: str) -> None:
    (base / "config.json").write_text(content)
    with pytest.raises(RequestError, match="base cannot be loaded"):
        build(base)


def test_torn_weights_are_refused(base: Path) -> None:
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(RequestError, match="base cannot be loaded as a text classifier"):
        build(base)


def test_more_tokens_than_the_model_has_positions_are_refused(base: Path) -> None:
    with pytest.raises(RequestError, match=f"max_seq_length must be at most {POSITIONS} for base, not {POSITIONS + 1}"):
        build_model(find(base), output_names=("bad", "good"), seed=1, max_seq_length=POSITIONS + 1)


def test_a_model_without_positions_reads_any_number_of_tokens(base: Path, tmp_path: Path) -> None:
    # XLNet's are relative, and it says so by a maximum of -1.
    from transformers import XLNetConfig, XLNetModel

    folder = shutil.copytree(base, tmp_path / "xlnet")
    XLNetModel(XLNetConfig(vocab_size=100, d_model=16, n_layer=1, n_head=2, d_inner=16)).save_pretrained(folder)
    model, _ = build_model(find(folder), output_names=("bad", "good"), seed=1, max_seq_length=1000)
    assert model.config.max_position_embeddings == -1


def test_a_tokenizer_without_padding_and_end_is_refused(base: Path) -> None:
    path = base / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "[PAD]"', '"pad_token": null'))
    with pytest.raises(RequestError, match="the tokenizer of base has no padding token and no end token"):
        build(base)


def _decoder(folder: Path, *, ends_texts: bool = False, pad_token_id: int | None = None) -> Path:
    """Returns a Llama without a padding token whose tokenizer may write `</s>` at each text's end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    vocabulary = {token: at for at, token in enumerate(("<unk>", "<s>", "</s>", "a", "film", "good", "bad"))}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    template = "<s> $A </s>" if ends_texts else "<s> $A"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    LlamaModel(LlamaConfig(vocab_size=len(vocabulary), pad_token_id=pad_token_id, **sizes)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("ends_texts", "pad_token_id", "padding"),
    [(False, None, "</s>"), (False, 0, "</s>"), (True, None, "<s>")],
    ids=["end of text", "config names another", "texts end with it"],
)
def test_a_decoder_scores_the_last_token_that_is_not_padding(
    ends_texts: bool, pad_token_id: int | None, padding: str, tmp_path: Path
) -> None:
    folder = _decoder(tmp_path / "llama", ends_texts=ends_texts, pad_token_id=pad_token_id)
    built = build_model(find(folder), output_names=("bad", "good"), seed=1, max_seq_length=8)
    model, tokenizer = cast("Any", built[0]), built[1]
    assert tokenizer.pad_token == padding
    # An unknown word is <unk>, which the config may take for padding.
    texts = ["a good film", "a odd", "bad"]
    scores = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    for text, score in zip(texts, scores, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        last = model.score(model.model(input_ids=ids).last_hidden_state[0, -1])
        torch.testing.assert_close(score, last, atol=1e-5, rtol=0)


def test_a_head_of_another_shape_is_replaced_and_the_body_kept(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "three", head=3)
    model = build(folder, names=("a", "b", "c", "d", "e"))
    assert model.classifier.weight.shape[0] == 5
    assert (model.config.num_labels, model.config.id2label[4]) == (5, "e")
    kept = build_tiny_model(tmp_path / "again", head=3)
    words = build(kept, names=("a", "b", "c")).bert.embeddings.word_embeddings.weight
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, words)


def test_the_seed_and_nothing_else_decides_the_new_head(base: Path) -> None:
    first = build(base, seed=1).classifier.weight
    torch.rand(7)
    assert torch.equal(first, build(base, seed=1).classifier.weight)
    assert not torch.equal(first, build(base, seed=2).classifier.weight)


def test_weights_stored_in_half_precision_are_trained_in_single(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "half", dtype=torch.bfloat16)
    assert {weight.dtype for weight in build(folder).parameters()} == {torch.float32}


def test_label_names_go_into_the_config(base: Path) -> None:
    config = build(base, names=("bad", "good")).config
    assert (config.id2label, config.label2id) == ({0: "bad", 1: "good"}, {"bad": 0, "good": 1})


def test_what_a_model_was_trained_for_before_does_not_decide_what_it_is_trained_for_now(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "tiny", head=3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    assert build(folder, names=("bad", "good")).config.problem_type == "single_label_classification"
    model, _ = build_model(
        find(folder), output_names=("rating",), seed=1, max_seq_length=POSITIONS, problem_type="regression"
    )
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
    assert model.config.id2label == {0: "rating"}


def test_the_content_is_the_same_wherever_the_folder_stands(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    assert find(copy).content["sha256"] == find(base).content["sha256"]
    (copy / "config.json").write_text("{}")
    assert find(copy).content["sha256"] != find(base).content["sha256"]


@pytest.mark.parametrize(
    "file", ["bpe.codes", "spiece.model", "source.spm", "tekken.json", "tiktoken.model", "prophetnet.tokenizer"]
)
def test_every_file_of_a_tokenizer_counts_in_the_content(base: Path, file: str) -> None:
    before = find(base).content["sha256"]
    (base / file).write_text("a")
    first = find(base).content["sha256"]
    (base / file).write_text("b")
    assert len({before, first, find(base).content["sha256"]}) == 3


def test_a_hub_model_without_network_and_cache_is_refused(tmp_path: Path) -> None:
    # In a process of its own: huggingface_hub reads its environment once. Port 9 refuses every connection.
    program = """
import sys
from pathlib import Path
from src.training.model.base_model import find_base_model
from src.cli.errors import RequestError
try:
    find_base_model("some/model", folder=Path(sys.argv[1]))
except RequestError as error:
    print(error)
"""
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    message = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, **unreachable, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert "cannot load base model some/model: it is not cached, and the hub does not serve it" in message
    assert "use --model_name_or_path embedded:bert_tiny_minilm" in message
    assert message.count("\n") == 1
