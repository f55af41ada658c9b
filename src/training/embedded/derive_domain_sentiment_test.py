"""The conversations: what an answer holds, as many of each kind, splits that share nothing, pinned bits."""

import hashlib
import json
import os
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from src.training.embedded import derive_domain_sentiment, locate, pins
from src.training.embedded.derive_domain_sentiment import DOMAINS, ROWS_OF_EACH, SENTIMENTS, SYSTEM
from src.training.embedded.near_duplicates import near_duplicate_groups, normalise

Turns = list[dict[str, str]]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Turns]]:
    files = locate.embedded_dataset("domain_sentiment")
    return {
        split: [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
        for split, path in files.items()
    }


@pytest.fixture(scope="module")
def sdist() -> Path:
    """Under Bazel a declared input; else where setup.sh puts it."""
    return Path(os.environ.get("VADER_SDIST", Path(sys.prefix, "share", "sdists", pins.SDIST_NAME)))


def answer(turns: Turns) -> Any:
    return json.loads(turns[2]["content"])


def test_a_row_is_the_task_a_sentence_and_an_answer_in_json(splits: dict[str, list[Turns]]) -> None:
    for turns in (turns for rows in splits.values() for turns in rows):
        assert [turn["role"] for turn in turns] == ["system", "user", "assistant"]
        assert turns[0]["content"] == SYSTEM
        assert 20 <= len(turns[1]["content"]) <= 100
        assert turns[1]["content"] == " ".join(turns[1]["content"].split())
        assert list(answer(turns)) == ["domain", "sentiment"]


def test_every_answer_is_as_frequent_as_every_other(splits: dict[str, list[Turns]]) -> None:
    for split, rows in splits.items():
        found = Counter(tuple(answer(turns).values()) for turns in rows)
        assert found == {(domain, label): ROWS_OF_EACH[split] for domain in DOMAINS for label in SENTIMENTS}


def test_the_task_names_every_value_of_an_answer() -> None:
    assert all(value in SYSTEM for value in (*DOMAINS, *SENTIMENTS, "domain", "sentiment"))


def test_no_sentence_is_a_near_duplicate_of_another(splits: dict[str, list[Turns]]) -> None:
    texts = {split: [normalise(turns[1]["content"]) for turns in rows] for split, rows in splits.items()}
    together = [text for rows in texts.values() for text in rows]
    assert all(len(group) == 1 for group in near_duplicate_groups(together))
    assert not any(set(left) & set(right) for left, right in combinations(texts.values(), 2))


def test_a_movie_review_is_in_the_same_split_as_in_movie_reviews(splits: dict[str, list[Turns]]) -> None:
    for split, path in locate.embedded_dataset("movie_reviews").items():
        reviews = path.read_text(encoding="utf-8")
        texts = [turns[1]["content"] for turns in splits[split] if answer(turns)["domain"] == "movie"]
        # White space and quotation marks are written differently there.
        assert sum(text in reviews for text in texts) > 0.7 * len(texts)


def test_the_first_rows_hold_every_answer(splits: dict[str, list[Turns]]) -> None:
    assert len({tuple(answer(turns).values()) for turns in splits["train"][:100]}) == 8


def test_second_derivation_gives_the_same_bytes(sdist: Path) -> None:
    derived = derive_domain_sentiment.derive(sdist)
    assert {name: hashlib.sha256(content).hexdigest() for name, content in derived.items()} == pins.DOMAIN_SENTIMENT


def test_a_corrupt_sdist_is_refused_and_nothing_is_written(
    tmp_path: Path, sdist: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt = tmp_path / "corrupt.tar.gz"
    corrupt.write_bytes(sdist.read_bytes()[:-1])
    assert derive_domain_sentiment.main([str(corrupt), "--out_dir", str(tmp_path / "out")]) == 1
    assert "corrupt.tar.gz is not the pinned file" in caplog.text
    assert not (tmp_path / "out").exists()
