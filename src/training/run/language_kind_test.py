"""A language model's run: what is refused before its weights are read, what is verified, and what is written."""

from __future__ import annotations

import errno
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from src.cli.errors import MachineError
from src.training.engine import language_pass, memory_check
from src.training.engine.memory_check import check_language_model_fits
from src.training.environment import description
from src.training.fused.linear import frozen_layers
from src.training.model.pretrained import load_tokenizer
from src.training.run import language_kind
from src.training.testing.program_runs import called_from
from src.training.testing.tiny_kinds import build_tiny_chat_model, build_tiny_chat_tokenizer
from src.training.testing.tiny_model import build_tiny_model
from src.training.testing.user_folder import copy_of_inputs
from src.training.train_model import main

ARGUMENTS = (
    *("--train_file", "train.jsonl", "--per_device_train_batch_size", "8", "--max_steps", "3"),
    *("--learning_rate", "1e-2", "--max_generate_samples", "2", "--threads", "1", "--output_dir", "out"),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    build_tiny_chat_model(folder / "base")
    build_tiny_model(folder / "bert")
    choose = random.Random(0)
    rows = []
    for row in range(40):
        word = choose.choice(("good", "bad"))
        # Answers of different lengths: a mean of means is not the mean.
        turns = [("user", f"the film {row} was {word}"), ("assistant", " ".join([word] * choose.randint(1, 6)))]
        rows.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


user_folder = pytest.fixture(copy_of_inputs)


def train(*more: str, model: str = "base") -> int:
    return main(["--model_name_or_path", model, *ARGUMENTS, *more])


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_comes_out_is_whole(user_folder: Path) -> None:
    assert train() == 0
    out = user_folder / "out"
    recipe, tokens = read(out / "recipe.json"), read(out / "tokenizer.json")["added_tokens"]
    end = next(token["id"] for token in tokens if token["content"] == "<|im_end|>")
    assert read(out / "generation_config.json")["eos_token_id"] == end
    assert (recipe["recipe"]["max_length"], recipe["recipe"]["max_steps"]) == (1024, 3)
    assert recipe["prompt"]["form"] == "chat"
    assert (out / "adapter" / "adapter_model.safetensors").is_file()


def test_no_more_is_asked_for_than_the_model_reads(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = user_folder / "base" / "config.json"
    path.write_text(json.dumps(read(path) | {"max_position_embeddings": 64}))
    assert train("--max_length", "65") == 2
    assert capsys.readouterr().err.endswith(
        "max_length must be at most 64 for base, not 65: it has no more positions\n"
    )
    assert train() == 0
    assert read(user_folder / "out" / "recipe.json")["recipe"]["max_length"] == 64


def test_no_prompt_is_longer_than_the_model_reads(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_tiny_gpt2(user_folder / "gpt2", positions=64)
    # All but fills the model: its answer does not fit. The other has an answer before a prompt that is too long.
    full = [("user", "good " * 20), ("assistant", "bad " * 15)]
    cut = [("user", "the film was"), ("assistant", "good"), ("user", "bad " * 80), ("assistant", "fine")]
    rows = [[{"role": role, "content": f"{at} {text}"} for role, text in (cut, full)[at % 2]] for at in range(8)]
    text = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    (user_folder / "test.jsonl").write_text(text)
    assert train("--test_file", "test.jsonl", "--max_generate_samples", "8", model="gpt2") == 0
    assert "test: 4 of 8 prompts are longer than --max_length and are not answered" in capsys.readouterr().out
    assert read(user_folder / "out" / "metrics.json")["after"]["answers"]["answers"] == 4


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--max_length", "8"), "--max_length 8 cuts off all that is to be learnt"),
        (("--lora_target_modules", "q_proj", "nothing"), "nothing: the model has no module of that name"),
    ],
)
def test_what_can_be_refused_is_refused_before_the_weights_are_read(
    more: tuple[str, ...], reason: str, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = user_folder / "base" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert train(*more) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1


def test_tokens_without_an_embedding_are_refused(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = load_tokenizer(user_folder / "base")
    tokenizer.add_tokens(["<movie>"])
    tokenizer.save_pretrained(user_folder / "base")
    assert train() == 2
    assert re.search(r"the tokenizer of base knows \d+ tokens, and the model has", capsys.readouterr().err)


def test_a_classifier_for_rows_of_a_language_model_is_one_sentence(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del user_folder
    assert train(model="bert") == 2
    assert capsys.readouterr().err == (
        "train_model: bert is not a language model (its config names BertModel), and train.jsonl with messages is for "
        "one (a classifier needs --label_column_name): choose one, such as --model_name_or_path "
        "embedded:smollm2-135m-instruct\n"
    )
    # As if the task had been named.
    assert train("--max_seq_length", "64") == 2
    assert "max_seq_length is for text-classification, use max_length" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["load_merged", "load_with_adapter"])
def test_files_that_answer_otherwise_are_not_kept(
    name: str, user_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(language_kind, name, lambda *_: _base(user_folder / "base"))
    assert train("--save_merged", "false" if name == "load_with_adapter" else "true") == 1
    assert "does not answer as the trained one did: nothing was kept" in capsys.readouterr().err
    assert not (user_folder / "out").exists()


def build_tiny_gpt2(folder: Path, *, positions: int) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = build_tiny_chat_tokenizer()
    tokenizer.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


def _base(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def test_accumulated_batches_train_as_one_of_them_all_does(user_folder: Path) -> None:
    half = ("--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--output_dir", "half")
    with called_from(user_folder):
        assert train() == 0 and train(*half) == 0
    assert read(user_folder / "half" / "recipe.json")["recipe"]["gradient_accumulation_steps"] == 2
    whole, parts = (load_file(user_folder / name / "adapter" / "adapter_model.safetensors") for name in ("out", "half"))
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values, atol=2e-4, rtol=0)


@pytest.fixture
def pretend_cpu(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Makes this CPU say that it has the given instructions."""
    cpuinfo = user_folder / "cpuinfo"
    monkeypatch.setattr(description, "_CPUINFO", cpuinfo)
    return lambda flags: cpuinfo.write_text(f"flags : {flags}\n")


def test_in_bfloat16_it_trains_as_in_float32_and_is_another_run(
    user_folder: Path, pretend_cpu: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_cpu("avx512_bf16")
    few = ("--max_generate_samples", "1", "--max_eval_samples", "2", "--max_predict_samples", "2")
    with called_from(user_folder):
        assert train(*few) == 0 and train(*few, "--bf16", "--output_dir", "rounded") == 0
    assert "frozen weights while training: bfloat16, by AVX512_BF16" in capsys.readouterr().out
    assert "products in bfloat16" in (user_folder / "rounded" / "README.md").read_text()
    recipes, losses = [], []
    for name in ("out", "rounded"):
        recipes.append(read(user_folder / name / "recipe.json"))
        events = map(json.loads, (user_folder / name / "events.jsonl").read_text().splitlines())
        losses.append([event["loss"] for event in events if event["event"] == "step"])
    assert [recipe["recipe"]["bf16"] for recipe in recipes] == [False, True]
    assert recipes[0]["fingerprint"] != recipes[1]["fingerprint"]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_bfloat16_is_refused_before_anything_is_read_where_it_does_not_pay(
    pretend_cpu: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_cpu("avx2")
    assert train("--bf16", model="not/downloaded") == 2
    assert "would emulate it, slower than float32: leave it out" in capsys.readouterr().err
    pretend_cpu("amx_bf16")
    wrong = [
        (("--reproducible", "portable"), "bf16 needs reproducible machine or off"),
        (("--use_peft", "false"), "bf16 needs use_peft"),
        (("--task", "text-classification"), "bf16 is for text-generation"),
    ]
    for flags, phrase in wrong:
        assert train("--bf16", *flags, model="not/downloaded") == 2
        assert phrase in capsys.readouterr().err


def test_weights_in_bfloat16_are_part_of_the_memory_estimate(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_check, "_PROCESS_BYTES", 0)
    model = _base(user_folder / "base").requires_grad_(False)
    load: dict[str, Any] = {"rows_per_process": 1, "longest": 1, "threads": 1, "keeps_best": False}
    rounded = 4 * sum(layer.weight.numel() for layer in frozen_layers(model))
    check_language_model_fits(model, **load, available=rounded // 2)
    with pytest.raises(MachineError, match="training needs about"):
        check_language_model_fits(model, **load, bf16=True, available=rounded // 2)


def test_a_run_that_fails_after_its_adapter_was_merged_resumes_to_the_same_model(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert train() == 0
    adapter = user_folder / "out" / "adapter" / "adapter_model.safetensors"
    expected = adapter.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(language_kind.LanguageKind, "verify", fill_the_disk)
        assert train("--overwrite_output_dir") == 1
    assert train("--overwrite_output_dir") == 0
    assert adapter.read_bytes() == expected
    assert not (user_folder / "out.checkpoint").exists()


@pytest.mark.parametrize(
    ("words", "settings", "skips"),
    [
        (("good", "bad"), (), True),
        # Too long to be generated, although the model knows it.
        (("good good", "bad bad"), ("--max_new_tokens", "1", "--max_steps", "120"), False),
    ],
)
def test_answers_that_the_scores_show_are_not_generated_again(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str], settings: tuple[str, ...], skips: bool
) -> None:
    turns = [(("user", f"the film {row} was {words[row % 2]}"), ("assistant", words[row % 2])) for row in range(80)]
    rows = [[{"role": role, "content": content} for role, content in pair] for pair in turns]
    (user_folder / "train.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    asked, generate = list[int](), language_kind.generate

    def counted(forward: Any, prompts: Any, decoding: Any) -> Any:
        asked.append(len(prompts))
        return generate(forward, prompts, decoding)

    def learn(output: str) -> Any:
        asked.clear()
        assert train("--max_steps", "30", "--max_generate_samples", "8", "--output_dir", output, *settings) == 0
        return read(user_folder / output / "metrics.json")

    monkeypatch.setattr(language_kind, "generate", counted)
    found = learn("quick")
    right = round(8 * found["after"]["answers"]["exact_match"]["share"])
    # Before and after, and one that is shown.
    assert bool(right) is skips and found["after"]["token_accuracy"] > 0.7
    assert sum(asked) == 8 + (8 - right) + 1
    # Where nothing is beyond rounding every answer is generated, with the same scores.
    monkeypatch.setattr(language_pass, "has_clear_best", lambda logits: torch.zeros(len(logits), dtype=torch.bool))
    assert learn("slow")["after"] == found["after"]
    assert sum(asked) == 8 + 8 + 1
