"""Every kind of model from a base model to predictions and an ONNX file: trained, saved, loaded, resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from src.training import export_onnx, predict
from src.training.data.batches import encode
from src.training.data.rows import Examples
from src.training.testing.program_runs import called_from
from src.training.testing.stopped_training import stopped_after
from src.training.testing.tiny_kinds import KINDS, MAX_TOKENS, build_tiny_decoder, build_tiny_kind
from src.training.testing.tiny_model import write_sentences
from src.training.testing.user_folder import copy_of_inputs
from src.training.train_model import main

ARGUMENTS = (
    *("--train_file", "train.csv", "--test_file", "test.csv", "--max_seq_length", str(MAX_TOKENS)),
    *("--per_device_train_batch_size", "8", "--learning_rate", "5e-3", "--num_train_epochs", "10", "--threads", "1"),
    *("--output_dir", "out"),
)
# 72 of 80 rows, 9 steps an epoch: in the middle of the fourth.
STOP_AT = 30
TEXTS = ("the film was good", "the story was very very very bad", "the film was very very great " * 10)

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model of each kind, and rows, one of them longer than any model reads."""
    folder = tmp_path_factory.mktemp("inputs")
    for kind in KINDS:
        build_tiny_kind(folder / kind, kind)
    write_sentences(folder / "train.csv", rows=80, seed=1)
    write_sentences(folder / "test.csv", rows=20, seed=2)
    with (folder / "test.csv").open("a", encoding="utf-8") as file:
        file.write("the film was good " + "and good " * 40 + ",positive\n")
    return folder


user_folder = pytest.fixture(copy_of_inputs)


@pytest.fixture(scope="module")
def trained(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a run that nothing stopped, by kind; it is trained once."""

    @cache
    def train(kind: str) -> Path:
        folder = shutil.copytree(inputs, tmp_path_factory.mktemp(kind) / "user_folder")
        with called_from(folder):
            assert main(["--model_name_or_path", kind, *ARGUMENTS]) == 0
        return folder / "out"

    return train


@every_kind
def test_it_learns_and_loads_as_any_model_does(kind: str, trained: Callable[[str], Path]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    metrics = json.loads((trained(kind) / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["before"]["accuracy"] < 0.8 < metrics["after"]["accuracy"]
    model, loading = AutoModelForSequenceClassification.from_pretrained(trained(kind), output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(trained(kind))
    logits = model(**tokenizer(list(TEXTS[:2]), padding=True, return_tensors="pt")).logits
    assert [model.config.id2label[at] for at in logits.argmax(dim=-1).tolist()] == ["positive", "negative"]


@every_kind
def test_predict_scores_as_the_pipeline_does(
    kind: str, trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import pipeline

    assert predict.main(["--model", str(trained(kind)), "--threads", "1", *TEXTS]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    classify = pipeline("text-classification", model=str(trained(kind)), truncation=True, max_length=MAX_TOKENS)
    wanted = classify(list(TEXTS))
    assert [line["label"] for line in rows] == [answer["label"] for answer in wanted]
    np.testing.assert_allclose([line["score"] for line in rows], [answer["score"] for answer in wanted], atol=1e-5)


@every_kind
def test_it_is_exported_to_a_graph_that_says_the_same(
    kind: str, trained: Callable[[str], Path], user_folder: Path
) -> None:
    arguments = ["--model", str(trained(kind)), "--output", "it.onnx", "--check_file", "test.csv"]
    assert export_onnx.main(arguments) == 0
    report = json.loads((user_folder / "it.onnx.json").read_text(encoding="utf-8"))
    assert (report["check"]["rows"], report["check"]["same_predictions"]) == (21, 1.0)
    assert ("token_type_ids" in report["inputs"]) == (kind in ("bert", "minilm"))


@every_kind
def test_a_stopped_run_goes_on_to_the_same_bits(kind: str, trained: Callable[[str], Path], user_folder: Path) -> None:
    with stopped_after(STOP_AT):
        assert main(["--model_name_or_path", kind, *ARGUMENTS]) == 3
    assert [path.name for path in (user_folder / "out.checkpoint").glob("checkpoint-*")] == [
        f"checkpoint-{STOP_AT + 1}"
    ]
    assert main(["--model_name_or_path", kind, *ARGUMENTS, "--resume_from_checkpoint", "true"]) == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (user_folder / "out" / name).read_bytes() == (trained(kind) / name).read_bytes()


@every_kind
def test_no_more_tokens_are_asked_for_than_it_reads(
    kind: str, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # RoBERTa's config names two positions more, which are never reached.
    longer = ["--max_seq_length", str(MAX_TOKENS + 1)]
    assert main(["--model_name_or_path", kind, *ARGUMENTS, *longer]) == 2
    errors = capsys.readouterr().err
    reason = f"must be at most {MAX_TOKENS} for {kind}, not {MAX_TOKENS + 1}"
    assert errors == f"train_model: max_seq_length {reason}: it has no more positions\n"
    assert not (user_folder / "out").exists()


@every_kind
def test_pairs_of_texts_are_trained_on(kind: str, user_folder: Path) -> None:
    opinions = ["good", "bad", "great", "awful"]
    rows = [(f"film {row} was {opinions[row % 4]}", f"it was {opinions[row // 2 % 4]}") for row in range(32)]
    lines = [f"{first},{second},{at % 2}" for at, (first, second) in enumerate(rows)]
    (user_folder / "train.csv").write_text("\n".join(["text,other,label", *lines]), encoding="utf-8")
    flags = ("--text_column_name", "text", "--text_pair_column_name", "other", "--num_train_epochs", "1")
    assert main(["--model_name_or_path", kind, "--train_file", "train.csv", *ARGUMENTS[4:], *flags]) == 0


@every_kind
def test_rows_are_encoded_as_its_tokenizer_does(kind: str, inputs: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(inputs / kind)
    texts = ("a good film", " Very\tBAD!", "ça va 😀", "good " * 50, f"{tokenizer.sep_token} not {tokenizer.pad_token}")
    wanted = AutoTokenizer.from_pretrained(inputs / kind)(list(texts), truncation=True, max_length=12)["input_ids"]
    rows = encode(Examples(split="train", texts=texts, labels=(0,) * 5), tokenizer=tokenizer, max_seq_length=12)
    assert [rows.tokens([row]).tolist() for row in range(5)] == wanted


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_without_a_padding_token_pads_with_its_end_token(
    kind: str, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer, pipeline

    build_tiny_decoder(user_folder / kind, kind, padding=False)
    assert main(["--model_name_or_path", kind, *ARGUMENTS]) == 0
    assert AutoTokenizer.from_pretrained(user_folder / "out").pad_token == "<|endoftext|>"
    metrics = json.loads((user_folder / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["before"]["accuracy"] < 0.8 < metrics["after"]["accuracy"]
    capsys.readouterr()
    assert predict.main(["--model", "out", "--threads", "1", *TEXTS]) == 0
    together = [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]
    # Alone nothing is padded.
    classify = pipeline("text-classification", model=str(user_folder / "out"), truncation=True, max_length=MAX_TOKENS)
    np.testing.assert_allclose(together, [classify(text)[0]["score"] for text in TEXTS], atol=1e-5)


def test_a_decoder_whose_tokenizer_has_one_is_trained_and_exported(user_folder: Path) -> None:
    # Its config names none, and transformers then scores one text at a time only.
    build_tiny_decoder(user_folder / "llama", "llama", padding=True)
    assert main(["--model_name_or_path", "llama", *ARGUMENTS, "--num_train_epochs", "1"]) == 0
    assert json.loads((user_folder / "out" / "config.json").read_text(encoding="utf-8"))["pad_token_id"] == 0
    assert export_onnx.main(["--model", "out", "--output", "it.onnx", "--check_file", "test.csv"]) == 0
