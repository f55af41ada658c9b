"""Which answers are right: by text, or by value where the references are JSON."""

from __future__ import annotations

import pytest

from src.training.evaluation.intervals import wilson_interval
from src.training.evaluation.problem import Answer
from src.training.problems.generation.answers import AnswerMetrics, judge

REFERENCE = '{"domain": "movie", "stars": 1}'


def judged(pairs: list[tuple[str, str]], *, cut: int = 0) -> tuple[AnswerMetrics, list[bool]]:
    """Scores answers, each with its reference; the first so many are cut off."""
    answers = [Answer(row=row, text=text, cut=row < cut) for row, (text, _) in enumerate(pairs)]
    metrics, right = judge(answers, [reference for _, reference in pairs])
    return metrics, right.tolist()


def test_texts_are_exact_but_for_the_blanks_around_them() -> None:
    metrics, right = judged([(" good\n", "good"), ("good", " good"), ("Good", "good"), ("good film", "good")])
    assert right == [True, True, False, False]
    assert (metrics.exact_match.share, metrics.exact_match.ci95) == (0.5, wilson_interval(2, 4))
    assert metrics.json is None


@pytest.mark.parametrize(
    ("answer", "exact"),
    [
        ('{"stars": 1, "domain": "movie"}', True),
        ('{"domain":"movie","stars":1.0}', True),
        ('\n```json\n{"domain": "movie", "stars": 1}\n```\n', True),
        ('```\n{"domain": "movie", "stars": 1}```', True),
        ('{"domain": "movie", "stars": true}', False),
        ('{"domain": "movie", "stars": "1"}', False),
        ('{"domain": "movie", "stars": 1, "more": null}', False),
        ('{"domain": "movie"}', False),
        ('[{"domain": "movie", "stars": 1}]', False),
        (REFERENCE + " I hope it helps!", False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_json_is_exact_if_it_has_the_same_values(answer: str, exact: bool) -> None:
    assert judged([(answer, REFERENCE)])[1] == [exact]


def test_nested_values_are_compared_too() -> None:
    wanted = '{"a": {"b": [1, true, null]}}'
    told = ['{"a": {"b": [1.0, true, null]}}', '{"a": {"b": [1, 1, null]}}', '{"a": {"b": [1, true]}}', '{"a": 0}']
    assert judged([(answer, wanted) for answer in told])[1] == [True, False, False, False]


def test_json_in_a_fence_is_counted_apart_and_its_values_count() -> None:
    metrics, _ = judged(
        [
            (REFERENCE, REFERENCE),
            (f"```json\n{REFERENCE}\n```", REFERENCE),
            ('{"domain": "news", "stars": 1}', REFERENCE),
            ("movie", '{"domain": "movie", "year": 1999}'),
            ('{"stars": NaN}', REFERENCE),
        ]
    )
    assert metrics.json is not None
    assert (metrics.json.valid.share, metrics.json.fenced.share, metrics.exact_match.share) == (0.4, 0.2, 0.4)
    # Of the references that have the key.
    assert {key: share.share for key, share in metrics.json.right_values.items()} == {
        "domain": 2 / 5,
        "stars": 3 / 4,
        "year": 0.0,
    }
    assert metrics.json.right_values["stars"].ci95 == wilson_interval(3, 4)


def test_references_of_which_one_is_no_object_are_compared_as_text() -> None:
    for other in ("good", "[1]", f"```\n{REFERENCE}\n```"):
        metrics, right = judged([('{"stars": 1, "domain": "movie"}', REFERENCE), (other, other)])
        assert metrics.json is None
        assert right == [False, True]


def test_scores_are_told_in_lines() -> None:
    metrics, _ = judged([(REFERENCE, REFERENCE), (f"```\n{REFERENCE}\n```", REFERENCE), ("", REFERENCE)], cut=1)
    lines = metrics.lines()
    assert lines[0] == "Exact match: 66.7% (95% interval 20.8% to 93.9%) of 3 answers"
    assert lines[1] == "Valid JSON: 33.3% (95% interval 6.1% to 79.2%), another 33.3% in a code fence"
    assert [line.split(":")[0] for line in lines[2:]] == [
        "Right domain",
        "Right stars",
        "Cut off at the maximum length",
    ]
    assert lines[-1].endswith("1 of 3 answers")
    assert metrics.as_json()["json"]["right_values"]["domain"]["share"] == 2 / 3
    assert [score.name for score in metrics.card_scores()] == [
        *("exact match", "valid JSON", "JSON in a code fence", "right domain", "right stars")
    ]
    plain, _ = judged([("a", "a")])
    assert len(plain.lines()) == len(plain.card_scores()) == 1
