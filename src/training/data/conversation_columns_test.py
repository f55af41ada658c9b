"""The columns that rows for a language model come in, and every refusal of rows that cannot be learnt from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.conversation_columns import claims, read_conversations
from src.training.data.conversations import Conversation, Turn
from src.training.data.files import read_file
from src.training.data.tables import Table

ASKED = {"role": "user", "content": "the film 1 was"}
ANSWERED = {"role": "assistant", "content": "good"}
CHAT = (Turn(role="user", content="the film 1 was"), Turn(role="assistant", content="good"))


def table(origin: str = "t.jsonl", **columns: Any) -> Table:
    return Table(origin=origin, columns={name: list(values) for name, values in columns.items()}, class_names={})


def read(*, has_template: bool = True, **columns: Any) -> tuple[tuple[Conversation, ...], str]:
    splits, form = read_conversations({"train": table(**columns)}, has_template=has_template)
    return splits["train"].rows, form


def turns(**columns: Any) -> tuple[Turn, ...]:
    return read(**columns)[0][0].turns


def refusal(**columns: Any) -> str:
    with pytest.raises(RequestError) as raised:
        read(**columns)
    return str(raised.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"messages": [[ASKED, ANSWERED]]},
        # As a csv file holds it.
        {"messages": [json.dumps([ASKED, ANSWERED])]},
        # As Arrow does, once another row has further keys.
        {"messages": [[ASKED | {"tool_calls": None, "name": None}, ANSWERED | {"tool_calls": [], "name": None}]]},
        # ShareGPT, and its mixtures with messages.
        {"conversations": [[{"from": "human", "value": "the film 1 was"}, {"from": "gpt", "value": "good"}]]},
        {"conversations": [[{"from": "user", "value": "the film 1 was"}, {"from": "assistant", "value": "good"}]]},
        {"conversations": [[ASKED, ANSWERED]]},
        # As datasets stores a Sequence of features.
        {"messages": [{"role": ["user", "assistant"], "content": ["the film 1 was", "good"]}]},
        {"messages": [[ASKED | {"content": [{"type": "text", "text": "the film 1 was"}]}, ANSWERED]]},
    ],
)
def test_messages_are_the_same_turns_however_they_are_written(columns: dict[str, Any]) -> None:
    rows, form = read(**columns)
    assert (rows[0].turns, form) == (CHAT, "chat")


def test_a_prompt_of_messages_is_context_and_its_completion_is_learnt() -> None:
    rows, form = read(prompt=[[ASKED, ANSWERED, ASKED]], completion=[[ANSWERED]])
    assert (rows[0].answers, rows[0].asked, rows[0].reference, form) == ((3,), (*CHAT, CHAT[0]), "good", "chat")


def test_prompt_and_completion_are_plain_text() -> None:
    rows, form = read(prompt=["the film was", None, float("nan"), ""], completion=[" good"] * 4)
    assert form == "plain"
    assert [row.asked[0].content for row in rows] == ["the film was", "", "", ""]
    assert {row.reference for row in rows} == {" good"}
    # A completion may be a list in JSON that holds no messages.
    assert turns(prompt=["a"], completion=['[{"domain": "movie"}]'])[1].content == '[{"domain": "movie"}]'


@pytest.mark.parametrize("blank", [None, "", " ", float("nan")])
def test_a_blank_input_is_none(blank: Any) -> None:
    columns: dict[str, Any] = {"instruction": ["say"] * 2, "input": [blank, "the film"], "output": ["good"] * 2}
    rows, form = read(**columns)
    assert form == "chat"
    assert [row.turns[0].content for row in rows] == ["say", "say\n\nthe film"]
    assert turns(instruction=["say"], output=["good"]) == rows[0].turns
    rows, form = read(has_template=False, **columns)
    assert form == "alpaca"
    assert [[turn.role for turn in row.turns] for row in rows] == [
        ["instruction", "completion"],
        ["instruction", "input", "completion"],
    ]


def test_text_is_in_its_column_or_in_the_only_one_or_in_the_named_one() -> None:
    wanted = ((Conversation(turns=(Turn(role="text", content="the film"),)),), "text")
    assert read(text=["the film"], label=["good"]) == read(sentence=["the film"]) == wanted
    splits, form = read_conversations(
        {"train": table(sentence=["the film"], text=["other"])}, has_template=True, text_column="sentence"
    )
    assert (splits["train"].rows, form) == wanted
    assert (wanted[0][0].asked, wanted[0][0].reference) == ((), None)


def test_of_several_forms_the_one_most_like_a_conversation_is_read_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    assert turns(text=["all of it"], prompt=["a"], completion=["b"], messages=[[ASKED, ANSWERED]]) == CHAT
    assert "t.jsonl: columns that are not read: text, prompt, completion" in caplog.text


def test_columns_that_nothing_reads_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    read(instruction=["a"], input=["b"], output=["c"])
    assert not caplog.text
    read(instruction=["a"], input=["b"], output=["c"], system=["be brief"], history=[[]])
    assert "t.jsonl: columns that are not read: system, history" in caplog.text


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"messages": [[]]}, True),
        ({"conversations": [[]], "id": [1]}, True),
        ({"prompt": ["a"], "completion": ["b"]}, True),
        ({"instruction": ["a"], "output": ["b"]}, True),
        ({"text": ["a"]}, True),
        ({"text": ["a"], "lable": ["b"]}, False),
        ({"text": ["a"], "label": ["b"]}, False),
        ({"prompt": ["a"], "completion": ["b"], "label": ["c"]}, False),
    ],
)
def test_rows_are_told_from_those_of_a_classifier(columns: dict[str, Any], wanted: bool) -> None:
    assert claims(table(**columns), label="label") is wanted


@pytest.mark.parametrize(
    ("turn", "fault"),
    [
        ({"role": "bot", "content": "a"}, "turn 1 of messages has the role 'bot': the roles are system, user, assist"),
        ({"role": None, "content": "a"}, "turn 1 of messages has no role"),
        ({"role": "user", "text": "a"}, "turn 1 of messages has no content: it has role, text"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}, "turn 1 of messages has tool_calls"),
        ({"role": "assistant", "content": None}, "turn 1 of messages is of the assistant and empty"),
        ({"role": "user", "content": [{"type": "image"}]}, "turn 1 of messages is [{'type': 'image'}], not text"),
        ({"role": "user", "content": 7}, "turn 1 of messages is 7, not text"),
        ({"role": "user", "content": None}, "turn 1 of messages has null for its content"),
        ({"role": "system", "content": None, "value": None}, "turn 1 of messages has null for its content"),
        ("hello", "turn 1 of messages is 'hello', not an object"),
        # As OpenAI's files and axolotl's leave out turns.
        (ANSWERED | {"weight": 0}, "turn 1 of messages has weight 0, which is not read"),
        (ANSWERED | {"train": False}, "turn 1 of messages has train False, which is not read"),
        ({"role": "user", "content": "a \ud83d"}, r"turn 1 of messages holds half of a character ('\ud83d')"),
    ],
)
def test_a_turn_that_cannot_be_written_is_refused_with_its_row(turn: Any, fault: str) -> None:
    told = refusal(messages=[[ASKED, ANSWERED], [turn, ASKED, ANSWERED]])
    assert told.startswith(f"t.jsonl, row 2: {fault}")
    assert told.endswith(": correct or remove the row, or leave out with --skip_bad_rows")


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"messages": [[ASKED, ASKED]]}, "row 1: messages has no assistant turn to learn from"),
        ({"messages": [[ANSWERED]]}, "row 1: messages has no assistant turn to learn from: its first turn answers no"),
        ({"messages": [[]]}, "row 1: messages is empty"),
        ({"messages": [None]}, "row 1: messages is empty"),
        ({"messages": [str([ASKED, ANSWERED])]}, "row 1: messages is not JSON"),
        ({"messages": ["[" * 100_000]}, "row 1: messages is not JSON"),
        ({"messages": [{"role": ["user"], "content": ["a", "b"]}]}, "row 1: messages has lists of different lengths"),
        ({"prompt": [str([ASKED])], "completion": [str([ANSWERED])]}, "row 1: prompt is not JSON"),
        ({"prompt": ["a"], "completion": ["b \ud83d"]}, "row 1: completion holds half of a character"),
        ({"messages": ["7"]}, "row 1: messages is 7, not a list of turns"),
        ({"prompt": ["a"], "completion": [" "]}, "row 1: completion is empty"),
        ({"prompt": ["a"], "completion": [7]}, "row 1: completion is 7, not text"),
        ({"prompt": [[ASKED]], "completion": ["b"]}, "row 1: one of prompt and completion is a list of messages"),
        ({"prompt": [[ASKED]], "completion": [[ASKED]]}, "row 1: completion has no assistant turn to learn from"),
        ({"prompt": ["a", [ASKED]], "completion": ["b", [ANSWERED]]}, "row 2: is of the form chat, and rows before it"),
        ({"instruction": ["a"], "output": [None]}, "row 1: output is empty"),
        ({"text": ["a", None]}, "row 2: text is empty"),
        (
            {"messages": [[ASKED, ANSWERED], None], "prompt": [None, "a"], "completion": [None, "b"]},
            "row 2: has prompt and completion, and the file has messages",
        ),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_refused(columns: dict[str, Any], fault: str) -> None:
    assert f"t.jsonl, {fault}" in refusal(**columns)


def test_all_bad_rows_are_named_at_once() -> None:
    good, mute = [ASKED, ANSWERED], [ASKED]
    rows: list[Any] = [good, mute, mute, None, *[mute] * 7, "x", [7], [8]]
    assert refusal(messages=rows) == (
        "t.jsonl, rows 2, 3, 5, 6, 7 and 4 more: messages has no assistant turn to learn from; row 4: messages is "
        "empty; row 12: messages is not JSON (json.dumps writes it); 2 more rows with other faults: correct or "
        "remove these rows, or leave out with --skip_bad_rows"
    )


def test_bad_rows_are_left_out_where_the_user_says_so() -> None:
    rows = table(messages=[[ASKED, ANSWERED], None, [ASKED, ANSWERED]])
    splits, _ = read_conversations({"train": rows}, has_template=True, skip_bad_rows=True)
    assert splits["train"].numbers == (1, 3)


def test_turns_that_say_that_they_are_learnt_are() -> None:
    assert turns(messages=[[ASKED, ANSWERED | {"weight": 1, "train": True}]]) == CHAT


def test_brackets_alone_are_no_messages() -> None:
    rows, form = read(prompt=["[INST] the film [/INST]"], completion=["[1, 2]"])
    assert ([turn.content for turn in rows[0].turns], form) == (["[INST] the film [/INST]", "[1, 2]"], "plain")


def test_rows_keep_their_lines_in_the_file(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": prompt, "completion": "good"}) for prompt in ("a", "b")]
    (tmp_path / "t.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    splits, _ = read_conversations({"train": read_file(tmp_path / "t.jsonl")}, has_template=True)
    assert (splits["train"].numbers, splits["train"].unit) == ((1, 3), "line")
    assert splits["train"].select([1]).unit == "line"


def test_unknown_columns_are_refused() -> None:
    assert "t.jsonl has the columns title, body: text generation reads messages, conversations, prompt and" in (
        refusal(title=["a"], body=["b"])
    )
    assert refusal(prompt=["a"], reply=["b"]) == "t.jsonl has the columns prompt, reply: rename reply to completion"
    tables = {"train": table(messages=[[ASKED, ANSWERED]]), "test": table("v.jsonl", prompt=["a"], completion=["b"])}
    with pytest.raises(RequestError, match=r"v\.jsonl has no messages, which t\.jsonl has: it has prompt, completion"):
        read_conversations(tables, has_template=True)
    with pytest.raises(RequestError, match="t.jsonl has no column 'body': it has messages"):
        read_conversations({"train": tables["train"]}, has_template=True, text_column="body")


def test_a_system_prompt_begins_the_rows_that_have_none() -> None:
    system = {"role": "system", "content": "be brief"}
    rows = [[ASKED, ANSWERED], [system, ASKED, ANSWERED]]
    splits, _ = read_conversations({"train": table(messages=rows)}, has_template=True, system_prompt="be kind")
    assert [row.turns[0].content for row in splits["train"].rows] == ["be kind", "be brief"]
    asked = {"train": table(prompt=[[ASKED]], completion=[[ANSWERED]])}
    splits, _ = read_conversations(asked, has_template=True, system_prompt="be kind")
    assert splits["train"].rows[0].context == 2
    with pytest.raises(RequestError, match="--system_prompt is for chat templates, and t.jsonl has text"):
        read_conversations({"train": table(text=["a"])}, has_template=True, system_prompt="be kind")


def test_a_csv_file_holds_messages_as_json_and_blank_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("instruction,input,output\nsay,,NA\n", encoding="utf-8")
    splits, _ = read_conversations({"train": read_file(tmp_path / "t.csv")}, has_template=True)
    assert [turn.content for turn in splits["train"].rows[0].turns] == ["say", "NA"]
    cell = json.dumps([ASKED, ANSWERED]).replace('"', '""')
    (tmp_path / "t.csv").write_text(f'messages\n"{cell}"\n', encoding="utf-8")
    splits, _ = read_conversations({"train": read_file(tmp_path / "t.csv")}, has_template=True)
    assert splits["train"].rows[0].turns == CHAT


def test_rows_of_a_file_are_numbered_by_its_lines() -> None:
    columns = {"text": ["a", " ", "b"]}
    table = Table(origin="t.jsonl", columns=columns, class_names={}, lines=(1, 4, 9))
    with pytest.raises(RequestError, match="t.jsonl, line 4: text is empty"):
        read_conversations({"train": table}, has_template=False)
    rows, _ = read_conversations({"train": table}, has_template=False, skip_bad_rows=True)
    assert (rows["train"].numbers, rows["train"].unit) == ((1, 9), "line")
