"""What counts as a near-duplicate, and what does not."""

import pytest

from src.training.embedded.near_duplicates import near_duplicate_groups, normalise, shingles


def grouped(*texts: str) -> list[list[int]]:
    return near_duplicate_groups([normalise(text) for text in texts])


def test_normalise_drops_case_accents_punctuation_and_white_space() -> None:
    assert normalise("  Amélie\u2014isn't  'it'? ") == "amelie isnt it"


def test_normalise_does_not_care_how_an_accent_is_encoded() -> None:
    assert normalise("Luc\u00eda") == normalise("Luci\u0301a") == "lucia"


def test_normalise_keeps_a_text_that_has_no_words() -> None:
    assert normalise(" :-( ") == ":-("


def test_shingles_of_a_short_text_are_the_text() -> None:
    assert shingles("truly terrible") == {"truly terrible"}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("...a pretentious mess...", "A pretentious mess!"),
        ("Funny and moving.", "Moving and funny"),
        ("A small movie with a big heart", "A small movie with a big impact"),
        ("One of the worst movies of the year.", "It isn't quite one of the worst movies of the year; it's just bad."),
    ],
    ids=["punctuation", "same words", "one word exchanged", "contained"],
)
def test_near_duplicates_share_a_group(left: str, right: str) -> None:
    assert grouped(left, right) == [[0, 1]]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Been there, done that.", "There's a heavy stench of been there, done that hanging over the film."),
        ("The film is full of charm.", "The film is strictly routine."),
        (":-)", ":-("),
    ],
    ids=["an idiom", "the same opening", "emoticons"],
)
def test_texts_that_only_share_a_phrase_stay_apart(left: str, right: str) -> None:
    assert grouped(left, right) == [[0], [1]]


def test_groups_join_through_a_third_text() -> None:
    chain = ["a b c d e f g h i j", "c d e f g h i j k l", "e f g h i j k l m n"]
    assert near_duplicate_groups(chain) == [[0, 1, 2]]
    assert near_duplicate_groups([chain[0], chain[2]]) == [[0], [1]]
