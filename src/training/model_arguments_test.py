"""Flags of predict and export_onnx, and the refusal of invalid ones."""

from __future__ import annotations

import pytest

from src.cli.errors import RequestError
from src.training.export_onnx import argument_parser as export_parser
from src.training.predict import argument_parser as predict_parser


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model is missing: name the folder"),
        (["--model"], "--model: expected one argument"),
        (["--modle", "m", "a text"], "--modle is not a flag (did you mean --model?)"),
        (["--model", "m", "-awful"], "-awful is not a flag: see --help; a text that begins with a dash goes after"),
        (["--model", "m", "--batch_size", "0"], "--batch_size: must be a whole number above 0, not '0'"),
        (["--model", "m", "--threads", "two"], "--threads: must be a whole number above 0, not 'two'"),
        (["--model", "m", "--max_seq_length", "1.5"], "--max_seq_length: must be a whole number above 0"),
    ],
)
def test_a_wrong_flag_is_one_sentence(arguments: list[str], words: str) -> None:
    with pytest.raises(RequestError) as refused:
        predict_parser().parse(arguments, takes_texts=True)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["one", "--model", "m", "two"], ["one", "two"]),
        (["--model", "m", "--", "-awful", "--model"], ["-awful", "--model"]),
        (["--model", "m", "one", "--", "--", "-3"], ["one", "--", "-3"]),
        (["--model", "m", "-5 stars"], ["-5 stars"]),
    ],
)
def test_texts_may_be_anywhere_and_begin_with_a_dash(arguments: list[str], texts: list[str]) -> None:
    given, words = predict_parser().parse(arguments, takes_texts=True)
    assert (given.model, words) == ("m", texts)


def test_export_takes_no_texts_and_fractions_only_from_0_to_1() -> None:
    with pytest.raises(RequestError, match="unexpected argument 'a text'"):
        export_parser().parse(["--model", "m", "a text"])
    for wrong in ("1.1", "nan", "most"):
        with pytest.raises(RequestError, match="--min_agreement: must be a number from 0 to 1"):
            export_parser().parse(["--model", "m", "--min_agreement", wrong])
