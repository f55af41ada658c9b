"""Prompts in, answers out: as arguments, as lines, in a conversation and on a terminal, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.training import generate as generate_program
from src.training.export_onnx import main as export_onnx
from src.training.generate import main
from src.training.inference.generator import Answer, Decoding, generate
from src.training.inference.language_folder import find_language_model
from src.training.inference.text_generator import load_text_generator
from src.training.model.base_model import find_base_model
from src.training.model.language_model import load_language_model, load_language_tokenizer, save_language_model
from src.training.model.lora import CAUSAL_LM, Lora, add_lora
from src.training.predict import main as predict
from src.training.testing.chain_model import build_chain_model
from src.training.testing.program_runs import json_lines, run_in
from src.training.testing.tiny_kinds import CHAT_TEMPLATE, build_tiny_chat_model, build_tiny_chat_tokenizer
from src.training.testing.tiny_model import build_tiny_model

# Of unlike lengths; the first line is longest.
ASKED = ["the story was very very very good and not dull", "the film 3 was", "a", "a film", "the game was not very"]
SHORT = ("--threads", "1", "--max_new_tokens", "8")


class Programs:
    """Runs programs from one folder."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self._capfd = folder, patch, capfd

    def run(self, *arguments: str, lines: Sequence[str] = (), program: Any = main) -> tuple[int, str, str]:
        """Returns the exit code, standard output and standard error."""
        data = "".join(f"{line}\n" for line in lines).encode()
        self._patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        code = run_in(self.folder, program, *arguments)
        return code, *self._capfd.readouterr()

    def rows(self, *arguments: str, lines: Sequence[str] = ()) -> list[Any]:
        """Returns the JSON lines of a run that goes well."""
        code, out, error = self.run(*arguments, lines=lines)
        assert (code, error) == (0, "")
        return json_lines(out)

    def refusal(self, *arguments: str, lines: Sequence[str] = (), program: Any = main) -> str:
        """Returns the sentence with which a wrong request is refused."""
        code, out, error = self.run(*arguments, lines=lines, program=program)
        assert (code, out, error.count("\n")) == (2, "", 1)
        return error


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models: tiny (random), chain (says what it was told), classifier, and an adapter on tiny."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("user")
    weights = build_tiny_chat_model(folder / "tiny") / "model.safetensors"
    # Larger ones than a new model's, so that an answer depends on more than the last token.
    save_file({name: 20 * value for name, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    tokenizer = build_tiny_chat_tokenizer(template=None)
    build_chain_model(folder / "chain", ["filmwas日good<|im_end|>", "notnot", "dull\x1b[2J"], tokenizer=tokenizer)
    build_tiny_model(folder / "classifier", head=2)
    build_tiny_model(folder / "encoder")
    for name, merged in (("adapter", False), ("merged", True)):
        base = find_base_model("tiny", folder=folder)
        model, tokenizer = load_language_model(base), load_language_tokenizer(base)
        lora = Lora(r=2, alpha=64, dropout=0.0, target_modules=("all-linear",))
        adapted = add_lora(model, lora, seed=1, base_name="tiny", task_type=CAUSAL_LM)
        torch.manual_seed(2)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        save_language_model(adapted, tokenizer, folder / name, stop_ids=[2], merged=merged)
    return folder


@pytest.fixture
def programs(models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Programs:
    capfd.readouterr()
    return Programs(models, monkeypatch, capfd)


def test_lines_are_answered_in_order_as_each_is_alone(programs: Programs) -> None:
    together = programs.rows("--model", "tiny", "--batch_size", "2", *SHORT, lines=ASKED)
    assert [row["prompt"] for row in together] == ASKED
    assert len({row["completion"] for row in together}) > 1
    assert programs.rows("--model", "tiny", *SHORT, *ASKED) == together
    assert [programs.rows("--model", "tiny", *SHORT, lines=[line])[0] for line in ASKED[:2]] == together[:2]


def test_tokens_without_an_embedding_are_refused(programs: Programs, tmp_path: Path) -> None:
    folder = build_tiny_chat_model(tmp_path / "more")
    tokenizer = build_tiny_chat_tokenizer()
    tokenizer.add_tokens(["<movie>"])
    tokenizer.save_pretrained(folder)
    assert "tokens, and the model has embeddings for" in programs.refusal("--model", str(folder), "a <movie>")


def test_an_answer_says_whether_it_was_cut(programs: Programs) -> None:
    asked = ["film", "not", "good"]
    assert programs.rows("--model", "chain", *SHORT, *asked) == [
        {"prompt": "film", "completion": "was日good", "finish_reason": "stop"},
        {"prompt": "not", "completion": "not" * 8, "finish_reason": "length"},
        {"prompt": "good", "completion": "", "finish_reason": "stop"},
    ]
    # Within a character: it is left out.
    (row,) = programs.rows("--model", "chain", "--threads", "1", "--max_new_tokens", "2", "film")
    assert row["completion"] == "was"


def test_a_model_is_asked_as_it_was_trained(programs: Programs) -> None:
    """With the form and the system prompt of its recipe.json; others are asked by their chat template."""

    def answers(form: dict[str, Any] | None, *arguments: str, line: str = "a film") -> Any:
        folder = shutil.copytree(programs.folder / "tiny", programs.folder / "trained")
        try:
            if form is not None:
                (folder / "recipe.json").write_text(json.dumps({"prompt": form}))
            (row,) = programs.rows("--model", "trained", *SHORT, *arguments, lines=[line])
            return row["completion"] if "completion" in row else row["messages"][-1]["content"]
        finally:
            shutil.rmtree(folder)

    turns = [{"role": "system", "content": "be good"}, {"role": "user", "content": "a film"}]
    with_system, chat = json.dumps({"messages": turns}), json.dumps({"messages": turns[1:]})
    by_system, by_template = answers(None, line=with_system), answers(None, line=chat)
    plain = answers({"form": "plain", "system": None})
    assert len({by_system, by_template, plain}) == 3
    trained = {"form": "chat", "system": "be good"}
    assert answers(None) == answers({"form": "chat", "system": None}) == by_template
    assert answers(trained) == answers(trained, line=chat) == answers(None, "--system", "be good") == by_system
    assert answers(trained, "--system_prompt", "") == by_template


def test_a_conversation_is_remembered(programs: Programs) -> None:
    _, first, _ = programs.run("--model", "tiny", "--chat", *SHORT, lines=["a film"])
    code, both, error = programs.run("--model", "tiny", "--chat", *SHORT, lines=["a film", "", "why"])
    assert both.startswith(first)
    turns = [("user", "a film"), ("assistant", first.removesuffix("\n")), ("user", "why")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (answered,) = programs.rows("--model", "tiny", *SHORT, lines=[json.dumps(row)])
    assert (code, both) == (0, first + answered["messages"][-1]["content"] + "\n")
    assert error.count("the answer was cut after 8 tokens: raise --max_new_tokens") == 2


def test_an_interrupt_ends_an_answer_and_not_the_conversation(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = generate_program._show_answer
    asked: list[list[int]] = []

    def show(generator: Any, ids: list[int]) -> Any:
        answer = shown(generator, ids)
        asked.append(ids)
        if len(asked) == 1:
            signal.raise_signal(signal.SIGINT)
        return answer

    monkeypatch.setattr(generate_program, "_show_answer", show)
    code, out, _ = programs.run("--model", "tiny", "--chat", *SHORT, lines=["a film", "a film"])
    first, second = out.splitlines()
    # As if the first had not been asked.
    assert (code, first, asked[0]) == (0, second, asked[1])


def test_a_conversation_that_grows_too_long_loses_its_beginning(programs: Programs, tmp_path: Path) -> None:
    tokenizer = build_tiny_chat_tokenizer(template=CHAT_TEMPLATE.replace("<|im_start|>assistant\\n", "film"))
    build_chain_model(tmp_path / "chat", ["filmwas<|im_end|>"], tokenizer=tokenizer, positions=40)
    code, out, error = programs.run(
        "--model", str(tmp_path / "chat"), "--chat", *SHORT, lines=["a", "the", "a " * 40, "x"]
    )
    assert (code, out) == (0, "was\nwas\nwas\n")
    too_long, forgets = error.splitlines()
    assert "its beginning is forgotten" in forgets
    assert "question 3 has" in too_long and "shorten it" in too_long


def test_on_a_terminal_an_answer_comes_as_text(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.openpty()
    with open(reading, "rb", buffering=0) as screen, open(writing, "w", encoding="utf-8") as terminal:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", terminal)
        code, _, error = programs.run("--model", "chain", "--threads", "1", "--max_new_tokens", "3", "film", "dull")
        shown = screen.read(4096).decode().replace("\r\n", "\n")
    assert (code, shown) == (0, "> film\nwas\n> dull\n\\x1b[2\n")
    assert error.count("the answer was cut after 3 tokens") == 2


def test_an_adapter_alone_answers_on_its_base(programs: Programs) -> None:
    merged = programs.rows("--model", "merged", *SHORT, *ASKED)
    assert programs.rows("--model", "adapter", *SHORT, *ASKED) == merged
    assert programs.rows("--model", "tiny", *SHORT, *ASKED) != merged


def test_an_adapter_whose_base_has_moved_names_it(programs: Programs) -> None:
    (programs.folder / "tiny").rename(programs.folder / "elsewhere")
    try:
        assert "adapter holds an adapter alone, and its base tiny" in programs.refusal("--model", "adapter", "a film")
        assert programs.run("--model", "merged", *SHORT, "a film")[0] == 0
    finally:
        (programs.folder / "elsewhere").rename(programs.folder / "tiny")


def test_samples_depend_on_the_seed_and_temperature_0_is_none(programs: Programs) -> None:
    def completions(*flags: str) -> list[str]:
        return [row["completion"] for row in programs.rows("--model", "tiny", *SHORT, *flags, *ASKED[:2])]

    greedy = completions()
    for flags in (("--temperature", "0"), ("--do_sample", "false"), ("--temperature", "0", "--do_sample", "true")):
        assert completions(*flags) == greedy
    sampled = completions("--temperature", "1", "--seed", "3")
    assert greedy != sampled != completions("--temperature", "1", "--seed", "4")
    assert completions("--do_sample", "true", "--seed", "3") == completions("--top_p", "1", "--seed", "3") == sampled


@pytest.mark.parametrize(
    ("arguments", "lines", "words"),
    [
        (("--model", "nowhere", "a"), (), "nowhere does not exist: name the folder of a trained model"),
        (("--model", "nowhere.gguf", "a"), (), "nowhere.gguf does not exist"),
        (("--model", "embedded:none", "a"), (), "There is no embedded model 'none'"),
        (("--model", "classifier", "a"), (), "classifier holds a classifier, not a language model: predict"),
        (("--model", "encoder", "a"), (), "encoder holds no language model (its config names BertModel)"),
        (("--model", "tiny", "a", " "), (), "prompt 2 is empty"),
        (("--model", "tiny", "a \udcff"), (), "prompt 1: the text holds half of a character"),
        (("--model", "tiny"), ('{"prompt": "a \\ud83d"}',), "line 1: the text holds half of a character"),
        (("--model", "tiny", "--max_seq_length", "3", "a"), (), "--max_seq_length is not a flag"),
        (("--model", "tiny", "--chat", "a"), (), "--chat reads what is asked from standard input"),
        (("--model", "tiny", "--do_sample", "false", "--temperature", "0.5", "a"), (), "contradict"),
        (("--model", "tiny", "--temperature", "-1", "a"), (), "--temperature: must be a number, 0 or more, not '-1'"),
        (("--model", "tiny", "--do_sample", "yes", "a"), (), "--do_sample: must be true or false"),
        (("--model", "tiny"), ('{"text": "a"}',), "line 1 is a JSON object with neither prompt nor messages"),
        (("--model", "chain", "--chat"), (), "--chat is for models that know turns, and chain continues texts"),
        (("--model", "chain", "--system", "x", "a"), (), "--system_prompt is for models that know turns"),
        (("--model", "chain"), ('{"messages": [{"role": "user", "content": "a"}]}',), "line 1 has messages, and the"),
        (("--model", "chain", *SHORT, "a " * 80), (), "prompt 1 has 81 tokens, and the model reads 64 with the answer"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    programs: Programs, arguments: tuple[str, ...], lines: tuple[str, ...], words: str
) -> None:
    assert words in programs.refusal(*arguments, lines=lines)


def test_what_stands_before_a_wrong_line_is_answered(programs: Programs) -> None:
    code, out, error = programs.run("--model", "chain", *SHORT, lines=["film", "good", "", "film"])
    assert (code, [row["prompt"] for row in json_lines(out)]) == (2, ["film", "good"])
    assert error == "generate: line 3 is empty: every line must hold a text\n"
    assert programs.rows("--model", "chain") == []


@pytest.mark.parametrize("folder", ["tiny", "adapter"])
def test_programs_for_classifiers_name_generate(programs: Programs, folder: str) -> None:
    for program, more in ((predict, ("a",)), (export_onnx, ())):
        refusal = programs.refusal("--model", folder, *more, program=program)
        assert f"{folder} holds a language model, not a classifier: generate" in refusal


def test_answers_come_batch_by_batch(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[int] = []

    def counted(forward: Any, prompts: Any, decoding: Any) -> list[Answer]:
        answered.append(len(prompts))
        return generate(forward, prompts, decoding)

    monkeypatch.setattr("src.training.inference.text_generator.generate", counted)
    source = find_language_model("chain", user_folder=models)
    generator = load_text_generator(source, Decoding(max_new_tokens=1, stop_ids=frozenset()))
    prompts = [[5] * length for length in (2, 1, 4, 3, 1)]
    seen = [(number, sum(answered)) for number, _ in generator.answers(prompts, batch_size=2)]
    # Both shortest are answered first, and wait for the first one, which is in the second batch.
    assert seen == [(0, 4), (1, 4), (2, 5), (3, 5), (4, 5)]
