"""What a model's folder may hold to be loaded, and that a loaded tokenizer is saved as it was."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.model.model_files import max_bytes
from src.training.model.pretrained import check_token_ids, load_adapter, load_model, load_tokenizer, refuse_custom_code
from src.training.testing.tiny_model import VOCABULARY, build_tiny_model


def folder_with(folder: Path, content: Any, *, file: str = "config.json") -> Path:
    (folder / file).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "config.4.0.0.json"])
@pytest.mark.parametrize("code", [{"AutoModel": "a.B"}, ["a.B", None], "a.B"])
def test_custom_code_is_refused_wherever_a_config_names_it(tmp_path: Path, file: str, code: Any) -> None:
    for content in ({"auto_map": code}, {"text_config": [{"auto_map": code}]}):
        with pytest.raises(RequestError, match=rf"x needs Python code of its own \({file} has auto_map\)"):
            refuse_custom_code(folder_with(tmp_path, content, file=file), name="x")


@pytest.mark.parametrize("content", [{"label2id": {"auto_map": 0}, "id2label": {"0": "auto_map"}}, {"auto_map": None}])
def test_labels_of_that_name_are_no_code(tmp_path: Path, content: Any) -> None:
    refuse_custom_code(folder_with(tmp_path, content))


def test_the_list_that_sentence_transformers_writes_is_read_and_code_in_it_refused(tmp_path: Path) -> None:
    refuse_custom_code(folder_with(tmp_path, [{"name": "reddit"}], file="data_config.json"))
    with pytest.raises(RequestError, match="data_config.json has auto_map"):
        refuse_custom_code(folder_with(tmp_path, [{"auto_map": "a.B"}], file="data_config.json"))
    with pytest.raises(RequestError, match="config.json is not valid JSON .it is not an object"):
        refuse_custom_code(folder_with(tmp_path, []))


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\udcff"], ids=["torn", "deep", "no text"])
def test_a_config_that_cannot_be_checked_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(RequestError, match=r"tokenizer_config.json is not valid JSON"):
        refuse_custom_code(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "adapter_config.json is not valid JSON"),
        ({}, "is not LoRA alone"),
        # It reads the adapters that it names.
        ({"peft_type": "XLORA", "adapters": {"1": "elsewhere"}}, "is not LoRA alone"),
        # peft imports the module of that name.
        ({"peft_type": "LORA", "megatron_config": {"a": 1}, "megatron_core": "this"}, "is not LoRA alone"),
    ],
)
def test_an_adapter_is_weights_and_nothing_else(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(RequestError, match=message):
        load_adapter(None, folder_with(tmp_path, content, file="adapter_config.json"))


def test_a_pickle_is_not_loaded_unasked(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "pickled", head=2, pickled=True)
    with pytest.raises(RequestError, match="cannot be loaded as a text classifier"):
        load_model(folder)
    assert load_model(folder, use_safetensors=False).num_labels == 2


def test_a_tokenizer_is_saved_as_if_loaded_by_transformers_defaults(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = build_tiny_model(tmp_path / "model")
    for name, tokenizer in (("ours", load_tokenizer(folder)), ("theirs", AutoTokenizer.from_pretrained(folder))):
        tokenizer.save_pretrained(tmp_path / name)
    ours, theirs = (json.loads((tmp_path / name / "tokenizer_config.json").read_text()) for name in ("ours", "theirs"))
    assert ours == {**theirs, "local_files_only": False}


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    # transformers would make one that knows special tokens and nothing else.
    folder = build_tiny_model(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RequestError, match=r"x has no tokenizer .such as tokenizer.json.: save its own"):
        load_tokenizer(folder, name="x")
    (folder / "vocab.txt").touch()
    with pytest.raises(RequestError, match="the tokenizer of x knows no word"):
        load_tokenizer(folder, name="x")


def test_a_tokenizer_of_characters_needs_no_file_of_tokens(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer, CanineTokenizer

    for kind in (ByT5Tokenizer, CanineTokenizer):
        kind().save_pretrained(tmp_path / kind.__name__)
        assert len(load_tokenizer(tmp_path / kind.__name__)("a film")["input_ids"]) >= 6


def test_a_tokenizer_that_knows_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", head=2)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    check_token_ids(model, tokenizer, name="x")
    tokenizer.add_tokens(["<user>", "<url>"])
    reason = f"x knows {len(VOCABULARY) + 2} tokens, and the model has embeddings for {len(VOCABULARY)}"
    with pytest.raises(RequestError, match=reason):
        check_token_ids(model, tokenizer, name="x")


def test_a_tokenizer_that_is_a_sentencepiece_file_alone_is_loaded(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    text = tmp_path / "sentences.txt"
    text.write_text("\n".join(["the film was good", "a story that was very bad"] * 20), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        control_symbols="[CLS],[SEP],[MASK],<pad>",
        minloglevel=2,
    )
    (tmp_path / "config.json").write_text('{"model_type": "albert"}')
    tokens = load_tokenizer(tmp_path).tokenize("the film")
    assert "".join(tokens).replace("▁", " ").strip() == "the film"


def test_a_tokenizer_that_is_a_tiktoken_file_alone_is_loaded(tmp_path: Path) -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"fi", b"fil", b"film"]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    (tmp_path / "tiktoken.model").write_text("\n".join(lines))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert load_tokenizer(tmp_path).tokenize("film") == ["film"]


def test_every_file_that_a_tokenizer_is_loaded_from_is_known() -> None:
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    for name in {name for name in TOKENIZER_MAPPING_NAMES.values() if name}:
        for file in getattr(getattr(transformers, name), "vocab_files_names", {}).values():
            assert max_bytes(file), (name, file)
