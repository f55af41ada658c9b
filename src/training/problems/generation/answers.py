"""Answers of a language model against references: the same text, or, where the references are JSON, the same values."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.training.evaluation.intervals import wilson_interval
from src.training.evaluation.problem import Answer, CardScore

_FENCED = re.compile(r"```\w*\s*\n(.*?)\n?\s*```", re.DOTALL)
# A reference with more has its other keys in the exact match alone.
_MAX_KEYS = 20


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, as a share with its 95 % interval."""

    share: float
    ci95: tuple[float, float]

    @classmethod
    def of(cls, right: np.ndarray) -> Share:
        """Returns the share of a bool [n], n above 0."""
        return cls(share=float(right.mean()), ci95=wilson_interval(int(right.sum()), len(right)))

    @property
    def text(self) -> str:
        """Returns, say, `53.0% (95% interval 44.1% to 61.7%)`."""
        return "{:.1%} (95% interval {:.1%} to {:.1%})".format(self.share, *self.ci95)


@dataclass(frozen=True, kw_only=True)
class JsonScores:
    """Scores of answers to which all references are JSON objects.

    Attributes:
        valid: answers that are JSON, and nothing else.
        fenced: further ones that are JSON within a Markdown code fence. They count in all that compares values.
        right_values: by key, of the references that have it: answers with the same value there.
    """

    valid: Share
    fenced: Share
    right_values: dict[str, Share]


@dataclass(frozen=True, kw_only=True)
class AnswerMetrics:
    """How good answers are.

    Attributes:
        answers: how many.
        exact_match: those that are the reference: as text without the blanks around it; of JSON objects, by value.
        cut: those that are cut off by a maximum length.
        json: None where a reference is no JSON object.
    """

    answers: int
    exact_match: Share
    cut: int
    json: JsonScores | None

    def lines(self) -> list[str]:
        """Returns the scores for the console, line by line."""
        lines = [f"Exact match: {self.exact_match.text} of {self.answers:,} answers"]
        if self.json is not None:
            fenced = f", another {self.json.fenced.share:.1%} in a code fence" if self.json.fenced.share else ""
            lines.append(f"Valid JSON: {self.json.valid.text}{fenced}")
            lines += [f"Right {key}: {share.text}" for key, share in self.json.right_values.items()]
        if self.cut:
            lines.append(f"Cut off at the maximum length: {self.cut:,} of {self.answers:,} answers")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as metrics.json holds them."""
        return dataclasses.asdict(self)

    def card_scores(self) -> list[CardScore]:
        """Returns the scores for the model card."""
        shares = [("exact match", self.exact_match, "exact_match")]
        if self.json is not None:
            shares += [("valid JSON", self.json.valid, ""), ("JSON in a code fence", self.json.fenced, "")]
            shares += [(f"right {key}", share, "") for key, share in self.json.right_values.items()]
        return [CardScore(name, share.text, metric or None, share.share) for name, share, metric in shares]


def judge(answers: Sequence[Answer], references: Sequence[str]) -> tuple[AnswerMetrics, np.ndarray]:
    """Compares answers with references, of which there is one for each.

    Returns:
        The scores, and which answers are exact, bool [answers].
    """
    wanted = [_parsed(reference) for reference in references]
    told = [_parsed(answer.text) for answer in answers]
    is_json = all(value.is_object and not value.fenced for value in wanted)
    if is_json:
        exact = [own.found and _same(own.value, value.value) for own, value in zip(told, wanted, strict=True)]
    else:
        exact = [answer.text.strip() == text.strip() for answer, text in zip(answers, references, strict=True)]
    right = np.array(exact, bool)
    metrics = AnswerMetrics(
        answers=len(answers),
        exact_match=Share.of(right),
        cut=sum(answer.cut for answer in answers),
        json=_json_scores(told, wanted) if is_json else None,
    )
    return metrics, right


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """A text as JSON: whether it is, whether in a code fence, and its value."""

    found: bool
    fenced: bool = False
    value: Any = None

    @property
    def is_object(self) -> bool:
        return isinstance(self.value, dict)


def _parsed(text: str) -> _Parsed:
    fence = _FENCED.fullmatch(text.strip())
    try:
        value = json.loads(text if fence is None else fence[1], parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return _Parsed(found=False)
    return _Parsed(found=True, fenced=fence is not None, value=value)


def _refuse_constant(name: str) -> None:
    """Refuses NaN and its like, which Python's reader takes and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. To Python true is 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _json_scores(told: Sequence[_Parsed], wanted: Sequence[_Parsed]) -> JsonScores:
    right: dict[str, list[bool]] = {}
    for own, reference in zip(told, wanted, strict=True):
        answer = own.value if own.is_object else {}
        for key, value in reference.value.items():
            right.setdefault(key, []).append(key in answer and _same(answer[key], value))
    return JsonScores(
        valid=Share.of(np.array([own.found and not own.fenced for own in told])),
        fenced=Share.of(np.array([own.fenced for own in told])),
        right_values={key: Share.of(np.array(found)) for key, found in list(right.items())[:_MAX_KEYS]},
    )
