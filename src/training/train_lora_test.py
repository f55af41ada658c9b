"""Classifiers trained by LoRA: merged weights and adapter, each alone, stopped and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.training import export_onnx, predict
from src.training.testing.program_runs import called_from
from src.training.testing.stopped_training import stopped_after
from src.training.testing.tiny_kinds import KINDS, MAX_TOKENS, build_tiny_decoder, build_tiny_kind
from src.training.testing.tiny_model import write_sentences
from src.training.testing.user_folder import copy_of_inputs
from src.training.train_model import main

DECODERS = ("gpt2", "llama")
ARGUMENTS = (
    *("--train_file", "train.csv", "--test_file", "test.csv", "--max_seq_length", str(MAX_TOKENS)),
    *("--per_device_train_batch_size", "8", "--learning_rate", "2e-2", "--num_train_epochs", "2", "--threads", "1"),
    *("--use_peft", "true", "--output_dir", "out"),
)
STOP_AT = 7
TEXTS = ("the film was good", "the story 3 was very awful")

every_kind = pytest.mark.parametrize("kind", [*KINDS, *DECODERS])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for kind in KINDS:
        build_tiny_kind(folder / kind, kind)
    for kind in DECODERS:
        build_tiny_decoder(folder / kind, kind, padding=False)
    write_sentences(folder / "train.csv", rows=60, seed=1)
    write_sentences(folder / "test.csv", rows=20, seed=2)
    return folder


user_folder = pytest.fixture(copy_of_inputs)


def train(kind: str, *more: str) -> int:
    return main(["--model_name_or_path", kind, *ARGUMENTS, *more])


def predicted(folder: str, capsys: pytest.CaptureFixture[str]) -> list[list[float]]:
    capsys.readouterr()
    assert predict.main(["--model", folder, "--threads", "1", *TEXTS]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [list(line["scores"].values()) for line in lines]


def peft_scores(folder: Path) -> np.ndarray:
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoTokenizer

    model = AutoPeftModelForSequenceClassification.from_pretrained(folder / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = [{**tokenizer(text, return_tensors="pt")} for text in TEXTS]
    names = ("input_ids", "attention_mask")
    logits = [model(**{name: one[name] for name in names}).logits[0].softmax(-1).tolist() for one in given]
    return np.array(logits)


@every_kind
def test_merged_weights_and_the_adapter_alone_say_the_same(
    kind: str, user_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForSequenceClassification

    # peft looks for the base from where it is called.
    monkeypatch.chdir(user_folder)

    assert train(kind) == 0
    _, loading = AutoModelForSequenceClassification.from_pretrained(user_folder / "out", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    config = json.loads((user_folder / "out" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["task_type"] == "SEQ_CLS" and config["base_model_name_or_path"] == kind
    assert config["target_modules"] == sorted(config["target_modules"])
    merged = predicted("out", capsys)

    assert train(kind, "--save_merged", "false", "--output_dir", "alone") == 0
    assert not list((user_folder / "alone").glob("*.safetensors"))
    adapter = Path("adapter") / "adapter_model.safetensors"
    assert (user_folder / "alone" / adapter).read_bytes() == (user_folder / "out" / adapter).read_bytes()
    np.testing.assert_allclose(predicted("alone", capsys), merged, atol=1e-5)
    # The head and all else that the base lacks, such as MiniLM's pooler, are in the adapter.
    np.testing.assert_allclose(peft_scores(user_folder / "alone"), merged, atol=1e-5)


def test_it_learns(user_folder: Path) -> None:
    assert train("llama", "--num_train_epochs", "6") == 0
    metrics = json.loads((user_folder / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["before"]["accuracy"] < 0.8 < metrics["after"]["accuracy"]


def test_an_adapter_alone_is_exported_with_its_base(user_folder: Path) -> None:
    assert train("distilbert", "--save_merged", "false") == 0
    assert export_onnx.main(["--model", "out", "--output", "it.onnx", "--check_file", "test.csv"]) == 0
    assert (user_folder / "it.onnx").is_file()


def test_a_base_that_has_moved_or_is_another_one_is_a_sentence(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("bert", "--save_merged", "false") == 0
    capsys.readouterr()
    (user_folder / "bert").rename(user_folder / "moved")
    assert predict.main(["--model", "out", *TEXTS]) == 2
    assert "out holds an adapter alone, and its base bert is not to be had" in capsys.readouterr().err
    shutil.rmtree(user_folder / "moved")
    build_tiny_kind(user_folder / "bert", "bert", seed=1)
    assert predict.main(["--model", "out", *TEXTS]) == 2
    assert "its base bert is not the model it was trained on" in capsys.readouterr().err


def test_an_adapter_that_lacks_weights_is_refused(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    assert train("distilbert", "--save_merged", "false") == 0
    path = user_folder / "out" / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    capsys.readouterr()
    for part in ("pre_classifier.weight", "q_lin.lora_B.weight"):
        save_file({name: values for name, values in weights.items() if not name.endswith(part)}, path)
        assert predict.main(["--model", "out", *TEXTS]) == 2
        error = capsys.readouterr().err
        assert part in error and error.count("\n") == 1


def test_a_stopped_run_goes_on_to_the_same_bits(user_folder: Path, inputs: Path) -> None:
    # Its pooler is drawn anew as well as its head.
    arguments = ("minilm", "--lora_dropout", "0.1")
    with stopped_after(STOP_AT):
        assert train(*arguments) == 3
    assert train(*arguments, "--resume_from_checkpoint", "true") == 0
    again = shutil.copytree(inputs, user_folder / "again")
    with called_from(again):
        assert train(*arguments) == 0
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (user_folder / "out" / name).read_bytes() == (again / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("query", "no_such_proj"), "no_such_proj: the model has no module of that name"),
        (("quary",), "quary: the model has no module of that name (did you mean query?)"),
        (("query", "classifier"), "classifier: the base does not have its weights, so they are trained whole"),
        (("query", "LayerNorm"), "LayerNorm: an adapter is for a linear layer or an embedding"),
    ],
)
def test_what_cannot_have_an_adapter_is_refused(
    names: tuple[str, ...], reason: str, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("bert", "--lora_target_modules", *names) == 2
    error = capsys.readouterr().err
    assert f"--lora_target_modules {reason}" in error and error.count("\n") == 1
    assert not (user_folder / "out").exists()


def test_named_modules_alone_have_an_adapter(user_folder: Path) -> None:
    assert train("bert", "--lora_target_modules", "query", "value") == 0
    config: dict[str, Any] = json.loads((user_folder / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["query", "value"]
