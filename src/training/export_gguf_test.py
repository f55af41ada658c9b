"""What the program writes, and what llama.cpp, transformers and we ourselves make of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from src.training.embedded import locate
from src.training.export import gguf_file
from src.training.export_gguf import main
from src.training.gguf.pre_tokenizers import CHECK, IGNORE_MERGES, PRE_TOKENIZERS
from src.training.model.base_model import find_base_model
from src.training.model.language_model import save_language_model
from src.training.model.lora import CAUSAL_LM, Lora, add_lora
from src.training.testing.llama_cpp import llama_cpp
from src.training.testing.program_runs import called_from
from src.training.testing.tiny_kinds import build_tiny_chat_model, build_tiny_chat_tokenizer, build_tiny_decoder
from src.training.testing.tiny_model import build_tiny_model

TEXTS = (
    "the film was very good",
    "It's 2019,\n\n  3.3 caf\u00e9 \U0001f680  ''don't'' \t x",
    "<|im_start|>user\nthe story<|im_end|>\n",
    "<movie> the film <unsure>",
)


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with called_from(tmp_path):
        yield tmp_path


def write_model(
    folder: Path, *, tokenizer: Any = None, more_rows: int = 0, added: tuple[str, ...] = (), **sizes: Any
) -> None:
    """Writes a tiny Llama whose answers vary."""
    tokenizer = tokenizer or build_tiny_chat_tokenizer()
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    tokenizer.save_pretrained(folder)
    defaults = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        # Greedy answers of weights as small as the usual 0.02 are all one token.
        "initializer_range": 0.2,
        "vocab_size": len(tokenizer) + more_rows,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(**(defaults | sizes)))
        for name, parameter in model.named_parameters():
            # Of ones and zeros nothing would tell whether they are read.
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.1)
        model.save_pretrained(folder)


def export(*flags: str) -> int:
    return main(["--model", "model", "--output", "out.gguf", *flags])


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "odd-widths": {"hidden_size": 48, "intermediate_size": 80},
    "wide-heads": {"head_dim": 16},
    "padded-rows": {"more_rows": 37},
    "added-tokens": {"added": ("<movie>", "<unsure>")},
    "begins": {"tokenizer": build_tiny_chat_tokenizer(begins=True)},
    "llama3": {
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_answers_as_transformers_does(user_folder: Path, kind: str) -> None:
    write_model(user_folder / "model", **KINDS[kind])
    assert export("--outtype", "f32") == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(user_folder / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(user_folder / "model")
    with llama_cpp(user_folder / "out.gguf") as theirs:
        for text in TEXTS:
            assert theirs.tokenize(text, special=True) == tokenizer(text)["input_ids"]
        prompts = [TEXTS[0], TEXTS[0] + " but the story was dull and the film was very very awful"]
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            new = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
            assert theirs.greedy(prompt, tokens=12) == tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_in_f32_comes_back_bit_for_bit_as_a_base_model(user_folder: Path, kind: str) -> None:
    write_model(user_folder / "model", **KINDS[kind])
    assert export("--outtype", "f32") == 0
    base = find_base_model("out.gguf", folder=user_folder)
    before, after = (load_file(folder / "model.safetensors") for folder in (user_folder / "model", base.folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ours, theirs = (LlamaConfig.from_pretrained(folder).to_dict() for folder in (user_folder / "model", base.folder))
    differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differing <= {"_name_or_path", "initializer_range"}
    one, other = (AutoTokenizer.from_pretrained(folder) for folder in (user_folder / "model", base.folder))
    for text in TEXTS:
        assert one(text)["input_ids"] == other(text)["input_ids"]
    assert (one.chat_template, one.bos_token, one.eos_token) == (other.chat_template, other.bos_token, other.eos_token)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_llama_cpp_splits_texts_as_the_named_pre_tokenizer_does(user_folder: Path, name: str) -> None:
    written = json.loads(build_tiny_chat_tokenizer().backend_tokenizer.to_str())
    written["pre_tokenizer"] = PRE_TOKENIZERS[name]
    # What a token of its own takes whole tells the ways of splitting apart.
    for piece in (
        "\u011033",
        "333",
        "\u0120''",
        "'RE",
        "'re",
        "\u010a\u010a",
        "\u0120\u0120",
        "\u0120!!",
        "(the",
        "\u00a1\u010a",
    ):
        for end in range(2, len(piece) + 1):
            written["model"]["vocab"].setdefault(piece[:end], len(written["model"]["vocab"]))
            written["model"]["merges"].append([piece[: end - 1], piece[end - 1]])
    written["model"]["ignore_merges"] = name in IGNORE_MERGES
    backend = Tokenizer.from_str(json.dumps(written))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>")
    write_model(user_folder / "model", tokenizer=tokenizer)
    assert export() == 0
    keys = GGUFReader(user_folder / "out.gguf").fields
    assert keys["tokenizer.ggml.pre"].contents() == name
    with llama_cpp(user_folder / "out.gguf") as theirs:
        for text in (*TEXTS[:2], CHECK, " 33 333 1234", "''RE 're (the film)\n\n  !!"):
            assert theirs.tokenize(text) == tokenizer(text)["input_ids"]


def test_a_vocabulary_of_sentencepiece_goes_there_and_back(user_folder: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abdefhilmorstuvwy"]
    # The best first, as SentencePiece numbers them: a lathe ends in "he", and has no "th".
    words = "he _w as th _t il fi _the ilm _f _film _was lm".replace("_", "\u2581").split()
    vocabulary = {piece: at for at, piece in enumerate([*pieces, *words])}
    merges = [
        (word[:end], word[end:])
        for word in words
        for end in range(1, len(word))
        if word[:end] in vocabulary and word[end:] in vocabulary
    ]
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges)
    write_model(user_folder / "model", tokenizer=tokenizer)
    assert export("--outtype", "f32") == 0
    base = find_base_model("out.gguf", folder=user_folder)
    again = AutoTokenizer.from_pretrained(base.folder)
    with llama_cpp(user_folder / "out.gguf") as theirs:
        for text in ("the film was very good", "a lathe", "the  film\n caf\u00e9 \U0001f680"):
            assert theirs.tokenize(text, special=True) == tokenizer(text)["input_ids"] == again(text)["input_ids"]
        # transformers' class puts no space before another one; SentencePiece and llama.cpp do.
        assert theirs.tokenize("  the", special=True) == again("  the")["input_ids"]


def test_rows_that_are_no_whole_blocks_stay_f16_and_that_is_said(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(user_folder / "model", hidden_size=48, intermediate_size=64)
    assert export("--outtype", "q8_0") == 0
    out = capsys.readouterr().out
    assert "matrices  14 as f16, 2 as q8_0 (rows that are no whole blocks of 32 weights stay f16" in out
    found = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(user_folder / "out.gguf").tensors}
    assert (found["blk.0.ffn_down.weight"], found["blk.0.attn_q.weight"]) == ("Q8_0", "F16")
    assert (found["output_norm.weight"], found["blk.1.attn_norm.weight"]) == ("F32", "F32")
    with llama_cpp(user_folder / "out.gguf") as theirs:
        assert theirs.greedy(TEXTS[0], tokens=4)


def test_a_weight_beyond_the_range_of_f16_is_not_made_infinite(user_folder: Path) -> None:
    write_model(user_folder / "model")
    path = user_folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e5
    save_file(weights, path, metadata={"format": "pt"})
    assert export() == 0
    tensors = {tensor.name: tensor for tensor in GGUFReader(user_folder / "out.gguf").tensors}
    assert tensors["blk.1.ffn_up.weight"].tensor_type.name == "F32"
    assert tensors["blk.1.ffn_up.weight"].data.max() == np.float32(1e5)


def test_the_chat_template_and_the_ends_of_an_answer_are_in_the_file(user_folder: Path) -> None:
    write_model(user_folder / "model", tokenizer=build_tiny_chat_tokenizer(bos="<|endoftext|>", eos="<|endoftext|>"))
    generation = user_folder / "model" / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [2, 0]}))
    assert export() == 0
    fields = GGUFReader(user_folder / "out.gguf").fields
    keys = {name.removeprefix("tokenizer."): field.contents() for name, field in fields.items()}
    assert (keys["ggml.eos_token_id"], keys["ggml.eot_token_id"], keys["ggml.bos_token_id"]) == (0, 2, 0)
    assert (keys["ggml.add_bos_token"], keys["ggml.add_eos_token"]) == (False, False)
    assert keys["chat_template"] == build_tiny_chat_tokenizer().chat_template


def add_adapter(folder: Path, *, base: Path) -> Any:
    """Writes a model's folder with an adapter alone; returns the merged model."""
    lora = Lora(r=4, alpha=8, dropout=0.0, target_modules=("all-linear",))
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = add_lora(model, lora, seed=1, base_name=f"./{base.name}", task_type=CAUSAL_LM)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save_language_model(tuned, AutoTokenizer.from_pretrained(base), folder, stop_ids=[2], merged=False)
    return tuned.merge_and_unload()


def test_an_adapter_alone_is_merged_with_its_base(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(user_folder / "base")
    merged = add_adapter(user_folder / "model", base=user_folder / "base")
    assert export("--outtype", "f32") == 0
    found = load_file(find_base_model("out.gguf", folder=user_folder).folder / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in merged.state_dict().items())
    assert not torch.equal(
        found["lm_head.weight"], load_file(user_folder / "base" / "model.safetensors")["model.norm.weight"]
    )
    # The name in recipe.json counts, and the content of what has it by now.
    recipe = {"recipe": {}, "inputs": {"model": {"source": "./other", "sha256": "0" * 64}}}
    (user_folder / "model" / "recipe.json").write_text(json.dumps(recipe))
    write_model(user_folder / "other")
    assert export() == 2
    assert "its base ./other is not the model it was trained on" in capsys.readouterr().err
    (user_folder / "model" / "recipe.json").unlink()
    (user_folder / "base").rename(user_folder / "moved")
    (user_folder / "out.gguf").unlink()
    assert export() == 2
    message = capsys.readouterr().err
    assert "model holds an adapter alone, and its base ./base is not to be had" in message
    assert message.count("\n") == 1
    assert not (user_folder / "out.gguf").exists()


def test_an_interrupted_export_leaves_the_older_file(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    write_model(user_folder / "model")
    (user_folder / "out.gguf").write_text("an older model")
    monkeypatch.setattr(gguf_file, "quantize", interrupt)
    assert export() == 3
    assert sorted(path.name for path in user_folder.iterdir()) == ["model", "out.gguf"]
    assert (user_folder / "out.gguf").read_text() == "an older model"


def break_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def break_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def split_otherwise(folder: Path) -> None:
    path = folder / "tokenizer.json"
    written = json.loads(path.read_text())
    written["pre_tokenizer"] = {"type": "Whitespace"}
    path.write_text(json.dumps(written))


def forget_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (break_weights, "its model.safetensors is damaged"),
        (break_numbers, "its model.norm.weight holds values that are not numbers"),
        (split_otherwise, "its tokenizer splits texts in a way that has no name in llama.cpp"),
        (forget_tensor, "it has no model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_a_model_that_llama_cpp_could_not_run_is_refused(
    user_folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], words: str
) -> None:
    write_model(user_folder / "model")
    change(user_folder / "model")
    assert export("--output", "new/out.gguf") == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (user_folder / "new").exists()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda folder: build_tiny_decoder(folder, "gpt2", padding=True), "its architecture is gpt2"),
        (lambda folder: build_tiny_decoder(folder, "llama", padding=True), "it is not a language model (its config"),
        (lambda folder: build_tiny_model(folder, head=2), "its architecture is bert"),
    ],
)
def test_another_kind_of_model_is_refused(
    user_folder: Path, capsys: pytest.CaptureFixture[str], build: Callable[[Path], None], words: str
) -> None:
    build(user_folder / "model")
    assert export() == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--output out.gguf", "--model is missing"),
        ("--model model", "--output is missing"),
        ("--model model --output out.bin", "--output must end in .gguf, not 'out.bin'"),
        ("--model model --output model/config.json/out.gguf", "config.json is a file"),
        ("--model nowhere --output out.gguf", "nowhere does not exist"),
        ("--model model/config.json --output out.gguf", "config.json is a file"),
        ("--model . --output out.gguf", "has no config.json"),
        ("--model adapter --output out.gguf", "adapter holds an adapter alone"),
        ("--model embedded:none --output out.gguf", "There is no embedded model 'none'"),
        ("--model model --output out.gguf --outtype q4_0", "invalid choice: 'q4_0'"),
        ("--model model --output out.gguf --out_type f16", "unrecognized arguments: --out_type f16"),
    ],
)
def test_a_wrong_request_is_refused(
    user_folder: Path, capsys: pytest.CaptureFixture[str], flags: str, words: str
) -> None:
    build_tiny_chat_model(user_folder / "model")
    (user_folder / "adapter").mkdir()
    (user_folder / "adapter" / "adapter_config.json").write_text("{}")
    # Progress bars of the building.
    capsys.readouterr()
    assert main(flags.split()) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (user_folder / "out.gguf").exists()


@pytest.fixture
def large_file(tmp_path: Path) -> Iterator[Path]:
    """A path whose 270 MB do not stay, as those of tmp_path do."""
    yield tmp_path / "out.gguf"
    (tmp_path / "out.gguf").unlink(missing_ok=True)


def test_the_embedded_model_answers_in_llama_cpp_as_it_does_here(large_file: Path) -> None:
    folder, path = locate.embedded_model("smollm2-135m-instruct"), large_file
    assert main(["--model", "embedded:smollm2-135m-instruct", "--output", str(path)]) == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with llama_cpp(path) as theirs:
        assert theirs.chat("What is the capital of France?", tokens=12) == "The capital of France is Paris."
        for text in (*TEXTS, CHECK):
            assert theirs.tokenize(text, special=True) == tokenizer(text)["input_ids"]
        for prompt in ("The first three planets are", "A good film is one that"):
            answer = theirs.greedy(prompt, tokens=10)
            ids = tokenizer(prompt + answer, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                likeliest = model(ids).logits[0].argmax(-1)
            start = len(tokenizer(prompt)["input_ids"])
            assert likeliest[start - 1 : -1].tolist() == ids[0, start:].tolist()
