"""Scores of a language model: how well it predicts the tokens of its references, and how good its answers are."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.cli.formats import number_or_dash
from src.training.evaluation.intervals import wilson_interval
from src.training.evaluation.problem import CardScore
from src.training.problems.generation.answers import AnswerMetrics

# Beyond it the exponential is no float.
_MAX_LOSS = 700.0


@dataclass(frozen=True, kw_only=True)
class TokenMetrics:
    """See `Metrics`.

    Attributes:
        tokens: how many were predicted.
        loss: mean cross entropy of a token, in nats.
        perplexity: its exponential; None where that is not finite.
        token_accuracy: share of tokens that are the most probable one, all before them being given.
        token_accuracy_ci95: where it would lie on many more such examples.
        answers: scores of whole answers; None where none were asked for.
    """

    split: str
    examples: int
    tokens: int
    loss: float
    perplexity: float | None
    token_accuracy: float
    token_accuracy_ci95: tuple[float, float]
    answers: AnswerMetrics | None = None

    @property
    def brief(self) -> str:
        return f"loss {self.loss:.4f}, token accuracy {self.token_accuracy:.4f}"

    def lines(self) -> list[str]:
        low, high = self.token_accuracy_ci95
        return [
            f"Examples: {self.examples:,} ({self.split}), {self.tokens:,} tokens",
            f"Loss: {self.loss:.4f} per token  Perplexity: {number_or_dash(self.perplexity)}",
            f"Token accuracy: {self.token_accuracy:.1%} (95% interval {low:.1%} to {high:.1%})",
            *([] if self.answers is None else self.answers.lines()),
        ]

    def card_scores(self) -> list[CardScore]:
        low, high = self.token_accuracy_ci95
        return [
            *([] if self.answers is None else self.answers.card_scores()),
            CardScore("loss per token", number_or_dash(self.loss)),
            CardScore("perplexity", number_or_dash(self.perplexity), "perplexity", self.perplexity),
            CardScore("token accuracy", f"{self.token_accuracy:.1%} (95% interval {low:.1%} to {high:.1%})"),
        ]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def as_event(self) -> dict[str, Any]:
        return {"loss": self.loss, "perplexity": self.perplexity, "token_accuracy": self.token_accuracy}


def score_tokens(*, split: str, losses: np.ndarray, tokens: np.ndarray, correct: np.ndarray) -> TokenMetrics:
    """Scores predicted tokens.

    Args:
        split: name of the rows.
        losses: sum of each row's losses, float [rows].
        tokens: how many each row has, [rows].
        correct: how many of them are right, [rows].
    """
    total = float(tokens.sum(dtype=np.float64))
    loss = float(losses.sum(dtype=np.float64)) / total
    return TokenMetrics(
        split=split,
        examples=len(tokens),
        tokens=int(total),
        loss=loss,
        perplexity=math.exp(loss) if loss < _MAX_LOSS else None,
        token_accuracy=float(correct.sum(dtype=np.float64)) / total,
        token_accuracy_ci95=_interval(tokens.astype(np.float64), correct.astype(np.float64)),
    )


def _interval(tokens: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of a share of tokens, which are right or wrong row by row rather than one by one.

    Wilson's, of as many independent tokens as would vary as much (E. L. Korn, B. I. Graubard, Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data, 1998); the variance is that of
    a ratio of sums over rows (W. G. Cochran, Sampling techniques, 1977, 6.4).
    """
    rows, total = len(tokens), float(tokens.sum())
    share = float(correct.sum()) / total
    residuals = correct - share * tokens
    variance = float(np.sum(residuals**2)) * rows / max(1, rows - 1) / total**2
    # Where rows do not differ, they are what is independent at the least.
    effective = min(total, share * (1 - share) / variance) if variance > 0 else rows
    effective = max(1, round(effective))
    return wilson_interval(round(share * effective), effective)
