"""Conversations as tokens: what is learnt, that the model is asked with what it has learnt, and batches of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from tokenizers import normalizers

from src.cli.errors import RequestError
from src.training.data import token_rows
from src.training.data.chat_template import chat_template, with_fixed_date
from src.training.data.conversations import Conversation, Conversations, Form, Role, Turn
from src.training.data.prompt_form import PromptForm
from src.training.data.token_rows import EncodedConversations, TokenRows, encode_conversations
from src.training.testing.tiny_kinds import CHAT_TEMPLATE, build_tiny_chat_tokenizer

ALPACA_ROLES: tuple[Role, ...] = ("instruction", "input", "completion")
OPENS = "{% for message in messages %}"
WRITES = "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
CLOSES = "{% endfor %}"
ASKS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
# Templates as models bring them, each with what it does that others do not.
TEMPLATES = {
    "plain": CHAT_TEMPLATE,
    "adds a system prompt": OPENS
    + "{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nBe nice<|im_end|>\n' }}{% endif %}"
    + WRITES
    + CLOSES
    + ASKS,
    "begins": "{{ bos_token }}" + CHAT_TEMPLATE,
    "strips": OPENS + WRITES.replace("message['content']", "message['content'] | trim") + CLOSES + ASKS,
    # Llama 2's: nothing asks for the answer, which begins with a space and ends with the end token.
    "does not ask": OPENS
    + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    + "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}"
    + CLOSES,
    "asks with a thought": OPENS + WRITES + CLOSES + ASKS.replace("assistant\n", "assistant\n<think>\n"),
    # Qwen 3's: a last answer gets an empty thought, earlier ones do not.
    "writes a thought": OPENS
    + "{% if loop.last and message['role'] == 'assistant' %}"
    + WRITES.replace("+ message['content']", "+ '<think>\n\n</think>\n\n' + message['content']")
    + "{% else %}"
    + WRITES
    + "{% endif %}"
    + CLOSES
    + ASKS,
    "has no end": OPENS + "{{ message['role'] + ': ' + message['content'] + '\n' }}" + CLOSES + "assistant:",
}


def turns(*texts: str, system: str | None = None) -> tuple[Turn, ...]:
    said = [Turn(role=("user", "assistant")[at % 2], content=text) for at, text in enumerate(texts)]
    return tuple(said) if system is None else (Turn(role="system", content=system), *said)


def plain(prompt: str, completion: str) -> tuple[Turn, ...]:
    return Turn(role="prompt", content=prompt), Turn(role="completion", content=completion)


def conversations(*rows: tuple[Turn, ...], context: int = 0) -> Conversations:
    made = tuple(Conversation(turns=row, context=context) for row in rows)
    return Conversations(split="train", origin="t.jsonl", rows=made, numbers=tuple(range(11, 11 + len(rows))))


def encode(tokenizer: Any, rows: Conversations, form: Form = "chat", **settings: Any) -> EncodedConversations:
    settings = {"max_length": 512} | settings
    return encode_conversations(rows, tokenizer=tokenizer, form=PromptForm(form=form), **settings)


def learnt(tokenizer: Any, rows: TokenRows, row: int = 0) -> list[str]:
    """Each run of learnt tokens, as text."""
    ids, mask = (part[rows.starts[row] : rows.starts[row + 1]] for part in (rows.ids, rows.learnt))
    ends = np.flatnonzero(np.diff(mask.astype(int), append=0, prepend=0)).reshape(-1, 2)
    return [tokenizer.decode(ids[start:end]) for start, end in ends]


def whole(tokenizer: Any, rows: TokenRows, row: int = 0) -> str:
    return str(tokenizer.decode(rows.tokens([row])))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_model_is_asked_with_the_tokens_it_has_learnt(name: str) -> None:
    tokenizer = build_tiny_chat_tokenizer(template=TEMPLATES[name], bos="<|endoftext|>")
    texts = ["the film was", " not good ", "a story is", "very good\n", "0 1 2 fine?", "'great'"]
    asked = conversations(turns(*texts[:2]), turns(*texts[2:6]), turns(texts[0], texts[1], system="a film"))
    rows = encode(tokenizer, asked).rows
    for row, conversation in enumerate(asked.rows):
        ids, mask = (part[rows.starts[row] : rows.starts[row + 1]] for part in (rows.ids, rows.learnt))
        prompt = PromptForm(form="chat").prompt_ids(tokenizer, conversation.asked)
        assert ids[: len(prompt)].tolist() == prompt
        assert mask[len(prompt) :].all() and not mask[len(prompt) - 1]
        # As everyone else asks it.
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation.asked]
        assert prompt == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("plain", plain("the film was", " good")),
        ("plain", plain("the film was ", "good")),
        ("plain", plain("", "good")),
        ("alpaca", (Turn(role="instruction", content="say {x}"), Turn(role="completion", content="good"))),
        ("alpaca", tuple(Turn(role=role, content=role) for role in ALPACA_ROLES)),
    ],
)
@pytest.mark.parametrize("begins", [False, True])
def test_a_prompt_without_a_template_has_the_tokens_it_has_alone(
    form: Form, row: tuple[Turn, ...], begins: bool
) -> None:
    tokenizer = build_tiny_chat_tokenizer(template=None, bos="<|endoftext|>", begins=begins)
    rows = encode(tokenizer, conversations(row), form).rows
    prompt = PromptForm(form=form).prompt_ids(tokenizer, row[:-1])
    assert rows.ids[: len(prompt)].tolist() == prompt
    assert learnt(tokenizer, rows) == [row[-1].content + "<|im_end|>"]
    assert prompt and not rows.learnt[: len(prompt)].any()
    assert (prompt[0] == 0) is (begins or not row[0].content)


def test_a_text_is_asked_for_in_the_form_that_was_learnt() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    asked = conversations(turns("the film", "good", system="be brief"), turns("a story", "bad", system="be brief"))
    form = PromptForm.of(asked, "chat")
    assert form == PromptForm.from_json(form.as_json()) == PromptForm(form="chat", system="be brief")
    rows = encode(tokenizer, asked).rows
    prompt = form.prompt_ids(tokenizer, "the film")
    assert rows.ids[: len(prompt)].tolist() == prompt
    others = conversations(turns("the film", "good", system="be brief"), turns("a story", "bad"))
    assert PromptForm.of(others, "chat").system is None
    alpaca = PromptForm(form="alpaca").prompt_ids(build_tiny_chat_tokenizer(template=None), "say")
    assert str(tokenizer.decode(alpaca)).endswith("request.\n\n### Instruction:\nsay\n\n### Response:")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("plain", ["not good<|im_end|>", "fine<|im_end|>"]),
        ("adds a system prompt", ["not good<|im_end|>", "fine<|im_end|>"]),
        ("does not ask", [" not good <|im_end|>", " fine <|im_end|>"]),
        ("asks with a thought", ["not good<|im_end|>", "fine<|im_end|>"]),
        ("writes a thought", ["not good<|im_end|>", "<think>\n\n</think>\n\nfine<|im_end|>"]),
        ("has no end", [" not good", " fine<|im_end|>"]),
    ],
)
def test_every_turn_of_the_assistant_is_learnt_with_its_end(name: str, wanted: list[str]) -> None:
    tokenizer = build_tiny_chat_tokenizer(template=TEMPLATES[name], bos="<|endoftext|>")
    row = turns("the film was", "not good", "a story is", "fine")
    assert learnt(tokenizer, encode(tokenizer, conversations(row)).rows) == wanted
    # What stands in a prompt of messages is context.
    assert learnt(tokenizer, encode(tokenizer, conversations(row, context=3)).rows) == wanted[1:]


def test_an_answer_that_holds_the_end_token_or_repeats_its_question_ends_at_its_own_end() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    row = turns("good", "good <|im_end|> bad", "good", "good")
    encoded = encode(tokenizer, conversations(row, turns("a", "fine")))
    assert learnt(tokenizer, encoded.rows) == ["good <|im_end|> bad<|im_end|>", "good<|im_end|>"]
    assert encoded.control_tokens == 1
    assert any("1 of 2 rows hold a control token" in remark for remark in encoded.remarks())


@pytest.mark.parametrize("name", ["plain", "begins", "adds a system prompt"])
@pytest.mark.parametrize("begins", [False, True])
def test_a_row_begins_once(name: str, begins: bool) -> None:
    tokenizer = build_tiny_chat_tokenizer(template=TEMPLATES[name], bos="<|endoftext|>", begins=begins)
    rows = encode(tokenizer, conversations(turns("the film", "good"))).rows
    assert rows.ids.tolist().count(0) == (name == "begins")
    for text in ("the film", "<|endoftext|>the film"):
        row = (Turn(role="text", content=text),)
        assert encode(tokenizer, conversations(row), "text").rows.ids.tolist().count(0) == (begins or "<" in text)
        asked = encode(tokenizer, conversations(plain(text, " was")), "plain").rows
        assert asked.ids.tolist().count(0) == (begins or "<" in text)


def test_an_end_is_added_unless_it_is_there() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    ends = conversations(plain("a", " film"), plain("a", " film<|im_end|>"))
    encoded = encode(tokenizer, ends, "plain")
    assert [whole(tokenizer, encoded.rows, row) for row in (0, 1)] == ["a film<|im_end|>"] * 2
    assert not encoded.remarks()
    text = encode(tokenizer, conversations((Turn(role="text", content="a film was"),)), "text").rows
    assert learnt(tokenizer, text) == [" film was<|im_end|>"]
    # The end of a turn is the template's, not the tokenizer's.
    tokenizer = build_tiny_chat_tokenizer(eos="<|endoftext|>")
    assert chat_template(tokenizer).end == "<|im_end|>"
    assert (PromptForm(form="chat").end_ids(tokenizer), PromptForm(form="plain").end_ids(tokenizer)) == ([2, 0], [0])
    assert learnt(tokenizer, encode(tokenizer, conversations(turns("a", "film"))).rows) == ["film<|im_end|>"]


def test_prompts_are_learnt_too_if_asked_for() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    row = conversations(plain("the film", " was good"))
    assert learnt(tokenizer, encode(tokenizer, row, "plain", completion_only_loss=False).rows) == [
        " film was good<|im_end|>"
    ]
    chat = encode(tokenizer, conversations(turns("the", "film")), assistant_only_loss=False).rows
    assert learnt(tokenizer, chat) == ["user\nthe<|im_end|>\n<|im_start|>assistant\nfilm<|im_end|>\n"]
    four = conversations(turns("the", "film", "a", "story"), context=2)
    assert learnt(tokenizer, encode(tokenizer, four, assistant_only_loss=False).rows) == [
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nstory<|im_end|>\n"
    ]
    everything = encode(tokenizer, four, assistant_only_loss=False, completion_only_loss=False).rows
    assert learnt(tokenizer, everything)[0].startswith("user\nthe<|im_end|>")


def test_a_boundary_within_a_token_is_kept_and_counted() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    encoded = encode(tokenizer, conversations(plain("the goo", "d"), plain("the", " good")), "plain")
    assert encoded.split_boundaries == 1
    assert "1 of 2 rows have a prompt whose end and answer would be one token" in encoded.remarks()[0]
    assert [learnt(tokenizer, encoded.rows, row) for row in (0, 1)] == [["d<|im_end|>"], [" good<|im_end|>"]]


def test_a_tokenizer_that_puts_a_space_before_texts_puts_none_before_answers() -> None:
    # As SentencePiece's do.
    tokenizer: Any = build_tiny_chat_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Prepend(" ")
    encoded = encode(tokenizer, conversations(plain("the film", " was")), "plain")
    assert whole(tokenizer, encoded.rows) == " the film was<|im_end|>"
    assert learnt(tokenizer, encoded.rows) == [" was<|im_end|>"]


def test_many_rows_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = build_tiny_chat_tokenizer()
    rows = conversations(*(plain(f"the film {row}", " was good") for row in range(5)), plain("the goo", "d"))
    at_once = encode(tokenizer, rows, "plain")
    monkeypatch.setattr(token_rows, "TEXTS_AT_ONCE", 2)
    in_parts = encode(tokenizer, rows, "plain")
    assert in_parts.rows.ids.tolist() == at_once.rows.ids.tolist()
    assert in_parts.split_boundaries == at_once.split_boundaries == 1


def test_rows_are_cut_on_the_right_and_counted() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    rows = conversations(plain("the film", " was very very very good"), plain("the", " film"))
    encoded = encode(tokenizer, rows, "plain", max_length=5)
    assert (encoded.cut, encoded.remarks()) == (1, ["1 of 2 rows are longer than --max_length and were cut"])
    # A cut answer does not teach that it ends there.
    assert learnt(tokenizer, encoded.rows) == [" was"]
    assert encoded.rows.labels.tolist() == [2, 3]


def test_rows_whose_answers_are_cut_away_are_refused_by_number() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    long = plain("the film was very very very good", " fine")
    with pytest.raises(RequestError, match=r"t.jsonl, rows 12 and 13: --max_length 7 cuts off all .* learnt: raise it"):
        encode(tokenizer, conversations(plain("the", " film"), long, long), "plain", max_length=7)
    lines = dataclasses.replace(conversations(long), unit="line")
    with pytest.raises(RequestError, match=r"t.jsonl, line 11: --max_length 7 cuts off"):
        encode(tokenizer, lines, "plain", max_length=7)


def test_a_refusal_of_the_template_is_passed_on_with_the_row() -> None:
    strict = (
        OPENS
        + "{% if message['role'] == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}"
        + "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        + "{{ raise_exception('turns have to alternate') }}{% endif %}"
        + WRITES
        + CLOSES
        + ASKS
    )
    tokenizer = build_tiny_chat_tokenizer(template=strict)
    good = turns("the", "film")
    with pytest.raises(RequestError) as raised:
        encode(tokenizer, conversations(good, turns("a", "b", system="c"), (good[0], *good), good))
    assert "t.jsonl, row 12: the model's chat template refuses it: there is no system role; row 13: the " in str(
        raised.value
    )
    shifty = "{{ messages | length }}" + CHAT_TEMPLATE
    with pytest.raises(RequestError, match="row 11: the model's chat template refuses it: it does not write the turns"):
        encode(build_tiny_chat_tokenizer(template=shifty), conversations(good))
    with pytest.raises(RequestError, match="does not write a question and an answer: no"):
        encode(build_tiny_chat_tokenizer(template="{{ raise_exception('no') }}"), conversations(good))


def test_a_missing_template_and_a_missing_end_are_refused() -> None:
    with pytest.raises(RequestError, match="the model has no chat template"):
        encode(build_tiny_chat_tokenizer(template=None), conversations(turns("the", "film")))
    tokenizer = build_tiny_chat_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(RequestError, match=r"names no end token \(eos_token\)"):
        encode(tokenizer, conversations(plain("a", "b")), "plain")


def test_a_date_is_fixed_and_said() -> None:
    # Llama 3.2's.
    dated = (
        "{% if strftime_now is defined %}{% set date = strftime_now('%d %b %Y') %}{% else %}{% set date = 'x' %}"
        "{% endif %}{{ date }}" + CHAT_TEMPLATE
    )
    tokenizer = build_tiny_chat_tokenizer(template=dated)
    encoded = encode(tokenizer, conversations(turns("the", "film")))
    assert whole(tokenizer, encoded.rows).startswith("26 Jul 2024<|im_start|>")
    assert encoded.remarks() == ["The chat template writes today's date: it is fixed to 2024-07-26"]
    prompt = PromptForm(form="chat").prompt_ids(tokenizer, "the")
    assert encoded.rows.ids[: len(prompt)].tolist() == prompt
    # Saved so, it writes the same wherever it is used.
    tokenizer.chat_template = with_fixed_date(dated)
    messages = [{"role": "user", "content": "the"}]
    assert prompt == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    with pytest.raises(RequestError, match="writes today's date in a way that cannot be fixed"):
        encode(build_tiny_chat_tokenizer(template="{{ strftime_now(a) }}"), conversations(turns("the", "film")))


@pytest.fixture(scope="module")
def mixed() -> TokenRows:
    tokenizer = build_tiny_chat_tokenizer()
    random = np.random.default_rng(0)
    words = ["the", "film", "was", "very", "good"]
    rows = [
        turns(*(" ".join(random.choice(words, random.integers(1, 9))) for _ in range(2 + 2 * (row % 3 == 0))))
        for row in range(12)
    ]
    return encode(tokenizer, conversations(*rows)).rows


@pytest.mark.parametrize("rows", [range(12), [3], [5, 1, 7], [2, 2]])
def test_a_batch_holds_its_rows_with_their_beginning_once(mixed: TokenRows, rows: Any) -> None:
    batch = {name: values.numpy() for name, values in mixed.batch(rows).items()}
    prefix, ids = batch["prefix"], batch["input_ids"]
    # "<|im_start|>user\n" and what else they share.
    assert prefix.shape[0] == 1 and prefix.shape[1] >= 3
    assert {values.dtype for values in batch.values()} == {np.dtype(np.int64)}
    joined = np.concatenate([np.repeat(prefix, len(ids), axis=0), ids], axis=1)
    predicted: list[list[int]] = [[] for _ in ids]
    for (row, column), token in zip(batch["targets"], batch["labels"], strict=True):
        assert joined[row, prefix.shape[1] + column + 1] == token
        predicted[row].append(token)
    lengths = mixed.lengths[list(rows)]
    for at, row in enumerate(rows):
        span = slice(mixed.starts[row], mixed.starts[row + 1])
        assert joined[at, : lengths[at]].tolist() == mixed.ids[span].tolist()
        assert (joined[at, lengths[at] :] == mixed.pad_id).all()
        assert predicted[at] == mixed.ids[span][mixed.learnt[span]].tolist()
        assert len(predicted[at]) == mixed.labels[row]
    if lengths.min() == lengths.max():
        assert "attention_mask" not in batch
    else:
        assert batch["attention_mask"].sum(axis=1).tolist() == lengths.tolist()
        assert batch["attention_mask"].shape == joined.shape


def test_padding_that_is_the_end_token_hides_no_end(mixed: TokenRows) -> None:
    assert mixed.pad_id == 2
    for row in range(len(mixed)):
        end = mixed.starts[row + 1] - 1
        assert mixed.ids[end] == 2 and mixed.learnt[end]
    batch = mixed.batch(range(12))
    assert int((batch["labels"] == 2).sum()) == int((mixed.learnt & (mixed.ids == 2)).sum())


def test_a_batch_of_texts_has_no_common_beginning() -> None:
    rows = encode(build_tiny_chat_tokenizer(), conversations((Turn(role="text", content="a film"),)), "text").rows
    batch = rows.batch([0, 0])
    assert tuple(batch["prefix"].shape) == (1, 0)
    assert batch["targets"].tolist() == [[row, column] for row in (0, 1) for column in range(3)]
