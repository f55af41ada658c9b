"""The page and the card of a language model: answers before and after, the worst rows, and odd runs."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
import yaml

from src.training.data.conversations import Conversation, Role, Turn
from src.training.problems.generation.page import answered_rows, worst_rows
from src.training.report.model_card import model_card
from src.training.report.page import report_page
from src.training.testing.example_run import example_generation


def words(page: str) -> str:
    """What a page says, without its style sheet and its tags."""
    page = re.sub("<style.*?</style>|<desc.*?</desc>|<title.*?</title>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(page.split())


def test_the_first_sentence_tells_exact_answers_with_their_intervals() -> None:
    page = report_page(example_generation(answered=30, right_after=20))
    assert "went from 0.0 % ( 0.0 to 11.4 % ) to 66.7 % ( 48.8 to 80.8 % ) exact answers to 30 test rows" in words(page)
    assert "The references are JSON objects: an answer is exact if it has the same values." in words(page)
    assert "right sentiment 0.0 % 66.7 %" in words(page)
    assert "answers cut off at the maximum length 15 0" in words(page)
    assert "<title>mine: 66.7\u00a0% exact match</title>" in page


def test_answers_stand_side_by_side() -> None:
    run = example_generation(right_after=1)
    test: Any = run.test
    first, second, *_ = answered = answered_rows(run, test)
    assert len(answered) == 20
    assert (first.asked, first.before.text, first.before.cut) == ("row 0", "It is a film.", True)
    assert (first.after.exact, second.after.exact, second.before.cut) == (True, False, False)
    assert first.after.text == first.reference == '{"domain": "movie", "sentiment": "bad"}'
    page = report_page(run)
    assert page.count("(cut off)") == 10
    assert 'class="words good" data-is="after:" dir="auto">✓ {&#34;domain' in page


def test_the_rows_with_the_highest_loss_come_first() -> None:
    run = example_generation(rows=40)
    predicted = run.after.predicted.copy()
    predicted[7] = math.nan
    test: Any = run.test
    worst = worst_rows(dataclasses.replace(run, after=dataclasses.replace(run.after, predicted=predicted)), test)
    assert [row.text for row in worst[:3]] == ["row 7", "row 39", "row 38"]
    assert (worst[1].pair, round(worst[1].before, 2)) == ('{"domain": "movie", "sentiment": "good"}', 2.39)


def test_without_answers_the_page_tells_the_perplexity() -> None:
    run = example_generation(answered=0)
    page = words(report_page(run))
    assert "went from a perplexity of 8.9" in page
    assert "Answers before and after" not in page
    metrics: Any = run.after.metrics
    after = dataclasses.replace(run.after, metrics=dataclasses.replace(metrics, loss=math.inf, perplexity=None))
    assert "to - on 40 test rows" in words(report_page(dataclasses.replace(run, after=after)))


def test_rows_of_text_or_of_several_turns_are_shown_as_they_are() -> None:
    run = example_generation(rows=2, answered=0)
    said: list[tuple[Role, str]] = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    rows = (
        Conversation(turns=(Turn(role="text", content="a film"),)),
        Conversation(turns=tuple(Turn(role=role, content=text) for role, text in said)),
    )
    test: Any = run.test
    test = dataclasses.replace(test, rows=rows)
    chat, text = worst_rows(run, test)
    assert (text.text, text.pair) == ("a film", None)
    assert (chat.text, chat.pair) == ("user: a assistant: b user: c", "d")


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    page = report_page(example_generation(text="<script>alert(1)</script>{row}"))
    assert re.findall(r"<script|https?:|url\(|@import|onclick", page) == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;19" in page


@pytest.mark.parametrize("answered", [0, 30])
def test_every_heading_that_is_named_is_there(answered: int) -> None:
    page = report_page(example_generation(answered=answered))
    named = {name for names in re.findall('aria-labelledby="([^"]*)"', page) for name in names.split()}
    ids = re.findall(' id="([^"]*)"', page)
    assert named <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_card_shows_how_the_model_is_asked_and_how_good_its_answers_are() -> None:
    run = example_generation()
    text = model_card(run)
    assert 'pipeline("text-generation", model="PATH OF THIS FOLDER")([{"role": "system", "content": "Answer in' in text
    assert "A chat model, fine-tuned on CPUs" in text
    assert "Trained low-rank adapters (LoRA, rank 8) on 9,000 rows for 1 epoch in batches of 16" in text
    assert "| exact match | 0.0% (95% interval 0.0% to 11.4%) | 66.7% (95% interval 48.8% to 80.8%) |" in text
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["pipeline_tag"] == "text-generation"
    results = {result["type"]: result["value"] for result in header["model-index"][0]["results"][0]["metrics"]}
    assert results["exact_match"] == 0.666667
    assert math.isclose(results["perplexity"], np.exp(run.after.metrics.loss), rel_tol=1e-5)


def test_the_card_of_an_adapter_alone_names_its_folder_and_one_of_few_steps_tells_them() -> None:
    text = model_card(example_generation(save_merged=False, max_steps=60))
    assert 'model="PATH OF THIS FOLDER/adapter", tokenizer="PATH OF THIS FOLDER")' in text
    assert "on 9,000 rows for 60 steps in" in text
    assert "(LoRA" not in model_card(example_generation(use_peft=False))
