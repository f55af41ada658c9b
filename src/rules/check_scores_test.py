"""A model is as good as promised, or the test says which score falls short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_WRONG_REQUEST
from src.rules.check_scores import main

AFTER = {
    "accuracy": 0.75,
    "accuracy_ci95": [0.7, 0.8],
    "answers": {"exact_match": {"share": 0.5}},
    "examples": 1057,
    "labels": ["negative", "positive"],
    "loss": 0.5,
    "pearson": None,
    "split": "test",
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "metrics.json").write_text(json.dumps({"after": AFTER}))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("promise", "code", "line"),
    [
        ("--min accuracy=0.75", EXIT_DONE, "ok   accuracy is 0.75, promised at least 0.75"),
        ("--max loss=0.5", EXIT_DONE, "ok   loss is 0.5, promised at most 0.5"),
        ("--min accuracy=0.8", EXIT_FAILED, "FAIL accuracy is 0.75, promised at least 0.8"),
        ("--max loss=0.4", EXIT_FAILED, "FAIL loss is 0.5, promised at most 0.4"),
        ("--min answers.exact_match.share=0.6", EXIT_FAILED, "FAIL answers.exact_match.share is 0.5"),
        ("--min accuracy=0.7 answers.exact_match.share=0.6", EXIT_FAILED, "ok   accuracy"),
        # A score that could not be computed keeps no promise.
        ("--min pearson=-1", EXIT_FAILED, "FAIL pearson is nan"),
        ("--max pearson=1", EXIT_FAILED, "FAIL pearson is nan"),
    ],
)
def test_promises(model: str, promise: str, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([model, *promise.split()]) == code
    output = capsys.readouterr().out
    assert line in output
    assert ("worse than promised, on 1,057 test rows" in output) is (code == EXIT_FAILED)


@pytest.mark.parametrize(
    ("promise", "sentence"),
    [
        ("--min acuracy=0.8", "no score acuracy (did you mean accuracy?)"),
        # Lists and words are no scores.
        ("--min split=0.8", "no score split: choose one of accuracy, answers.exact_match.share"),
        ("--min accuracy", "must be SCORE=NUMBER, not 'accuracy'"),
    ],
)
def test_a_promise_that_cannot_be_checked(
    model: str, promise: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([model, *promise.split()]) == EXIT_WRONG_REQUEST
    assert sentence in capsys.readouterr().err
