"""Groups stay together, and parts share none of them."""

from __future__ import annotations

import numpy as np
import pytest

from src.training.data.splits import row_groups, sentence_groups, set_aside


def test_rows_of_one_text_but_for_case_and_spaces_are_one_group() -> None:
    groups = row_groups(["A film", "a  film ", "a story", "a film"])
    assert groups[0] == groups[1] == groups[3] != groups[2]


def test_phrases_stand_with_the_sentence_they_are_a_run_of_words_of() -> None:
    groups = sentence_groups(["good", "the film was good", "film was", "a dull story", "Dull  Story"])
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4] != groups[0]


def test_words_of_a_sentence_in_another_order_are_no_phrase_of_it() -> None:
    groups = sentence_groups(["the film was good", "good film", "film good", "the was"])
    assert len(set(groups)) == 4


def test_a_part_of_a_word_is_no_phrase() -> None:
    assert len(set(sentence_groups(["the filmed story", "film"]))) == 2


def test_a_phrase_of_two_sentences_stands_with_the_longer() -> None:
    groups = sentence_groups(["a good film", "good film", "the very good film"])
    assert groups[1] == groups[2] != groups[0]


def test_groups_do_not_depend_on_the_order_of_rows() -> None:
    texts = ["a good film", "good film", "the very good film", "film", "bad", "a bad story"]
    straight, turned = sentence_groups(texts), sentence_groups(texts[::-1])[::-1]
    same = [[a == b for b in straight] for a in straight]
    assert same == [[a == b for b in turned] for a in turned]


GROUPS = np.repeat(np.arange(100), np.random.default_rng(0).integers(1, 6, 100))


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_and_hold_whole_groups(seed: int) -> None:
    parts = set_aside(GROUPS, sizes=[40, 100], seed=seed)
    rows = np.concatenate(parts)
    assert len(set(rows)) == len(rows)
    left = np.setdiff1d(np.arange(len(GROUPS)), rows)
    sides = [set(GROUPS[part]) for part in (*parts, left)]
    assert sum(map(len, sides)) == 100


@pytest.mark.parametrize("seed", range(5))
def test_parts_have_their_size_up_to_one_group(seed: int) -> None:
    parts = set_aside(GROUPS, sizes=[40, 100], seed=seed)
    for part, size in zip(parts, (40, 100), strict=True):
        assert size - 5 < len(part) <= size
        assert list(part) == sorted(part)


def test_parts_of_single_rows_have_exactly_their_size() -> None:
    assert [len(part) for part in set_aside(np.arange(100), sizes=[10, 90], seed=0)] == [10, 90]


def test_what_is_left_goes_to_the_last_part_up_to_its_size() -> None:
    first, last = set_aside(np.arange(10), sizes=[4, 100], seed=0)
    assert sorted([*first, *last]) == list(range(10))


def test_a_part_of_no_rows_is_empty() -> None:
    nothing, everything = set_aside(np.arange(10), sizes=[0, 10], seed=0)
    assert (len(nothing), len(everything)) == (0, 10)


def test_the_seed_and_nothing_else_decides_the_parts() -> None:
    first = [part.tolist() for part in set_aside(GROUPS, sizes=[40, 100], seed=1)]
    assert first == [part.tolist() for part in set_aside(GROUPS, sizes=[40, 100], seed=1)]
    assert first != [part.tolist() for part in set_aside(GROUPS, sizes=[40, 100], seed=2)]


def test_every_row_is_as_likely_to_be_set_aside() -> None:
    times = np.zeros(50)
    for seed in range(400):
        times[set_aside(np.arange(50), sizes=[10], seed=seed)[0]] += 1
    # 400 draws with a chance of 1 in 5 each: 80 on average, and less than 5 standard deviations (8) from it.
    assert abs(times - 80).max() < 40


def test_every_part_has_a_like_share_of_every_stratum() -> None:
    strata = [0] * 700 + [1] * 250 + [2] * 50
    for seed in range(5):
        aside, train = set_aside(np.arange(1000), sizes=[100, 450], seed=seed, strata=strata)
        assert np.bincount(np.array(strata)[aside]).tolist() == [70, 25, 5]
        assert abs(np.bincount(np.array(strata)[train]) - [315, 112, 22]).max() <= 1
        assert not set(aside) & set(train)


@pytest.mark.parametrize("sizes", [[100, 900], [500, 500], [990, 10], [100, 50]])
def test_no_stratum_loses_its_only_rows_to_what_is_set_aside(sizes: list[int]) -> None:
    strata = [0] * 980 + [1] * 12 + [2] * 4 + [3] * 3 + [4]
    for seed in range(20):
        _, train = set_aside(np.arange(1000), sizes=sizes, seed=seed, strata=strata)
        assert {strata[row] for row in train} == {0, 1, 2, 3, 4}


def test_a_group_of_several_strata_is_of_the_rarest() -> None:
    groups, strata = np.array([*range(99), 0]), [0] * 99 + [1]
    for seed in range(20):
        assert {0, 99} <= set(set_aside(groups, sizes=[50, 50], seed=seed, strata=strata)[1])


def test_with_one_stratum_parts_are_those_of_none() -> None:
    first, second = (set_aside(GROUPS, sizes=[40, 100], seed=3, strata=strata) for strata in (None, [5] * len(GROUPS)))
    assert [part.tolist() for part in first] == [part.tolist() for part in second]
    # As they have always been: the bits of runs that are pinned depend on it.
    assert [part.tolist() for part in set_aside(np.arange(12), sizes=[3, 5], seed=42)] == [
        [0, 6, 7],
        [2, 3, 5, 9, 11],
    ]
