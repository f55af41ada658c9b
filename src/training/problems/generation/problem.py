"""Text generation: a language model that learns what comes next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from src.training.data.conversations import Conversations
from src.training.data.prompt_form import PromptForm
from src.training.evaluation.mcnemar import McNemar, compare_right
from src.training.evaluation.problem import Answer, Scored
from src.training.evaluation.result import FinishedRun
from src.training.evaluation.wilcoxon import Wilcoxon, signed_ranks
from src.training.problems.generation.answers import judge
from src.training.problems.generation.metrics import TokenMetrics, score_tokens
from src.training.problems.generation.page import TEMPLATE, page_view

if TYPE_CHECKING:
    import torch

_PROMPT = "This movie was really good!"


@dataclass(frozen=True, kw_only=True)
class RowLosses(Wilcoxon):
    """Compares the mean loss of each example, and, where there are answers, which of them are exact."""

    answers: McNemar | None = None

    smaller = "with a lower loss"
    larger = "with a higher one"

    @property
    def summary(self) -> str:
        """What changed, the verdict and the test, in one clause for the losses and one for the answers."""
        losses = super().summary
        return losses if self.answers is None else f"{losses}; of the answers {self.answers.summary}"

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"exact_match": None if self.answers is None else self.answers.as_json()}


@dataclass(frozen=True, kw_only=True)
class GenerationProblem:
    """See `Problem`: the loss is the cross entropy of a token, in nats.

    The examples of `loss_sum` are tokens. Those of all else are rows: labels are the numbers of learnt tokens, int64
    [rows]; a model's outputs are each row's sum of losses, learnt tokens, those among them that are the most probable
    one, and those that are so beyond rounding, float32 [rows, 4].

    Attributes:
        form: how the model is asked.
    """

    form: PromptForm

    config_problem_type = ""
    page_template = TEMPLATE
    pipeline_tag = "text-generation"
    output_names = ("loss", "tokens", "correct", "surely correct")

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the tokens' losses. logits: [tokens, vocabulary]; labels: their ids, [tokens]."""
        from torch.nn import functional

        return functional.cross_entropy(logits, labels, reduction="sum")

    def mass(self, labels: torch.Tensor) -> float:
        return float(labels.sum())

    def score(self, logits: np.ndarray, labels: np.ndarray, *, split: str) -> Scored:
        losses = logits[:, 0].astype(np.float64)
        metrics = score_tokens(split=split, losses=losses, tokens=labels, correct=logits[:, 2])
        means = losses / labels
        return Scored(metrics=metrics, predicted=means, confidence=np.exp(-means).astype(np.float32))

    def with_answers(self, scored: Scored, answers: Sequence[Answer], *, rows: Conversations) -> Scored:
        """Adds answers and their scores.

        Args:
            scored: the model's scores without answers.
            answers: to some of the rows, one or more.
            rows: what was scored.
        """
        assert isinstance(scored.metrics, TokenMetrics)
        metrics, _ = judge(answers, _references(answers, rows))
        return replace(scored, metrics=replace(scored.metrics, answers=metrics), answers=tuple(answers))

    def merit(self, metrics: TokenMetrics) -> tuple[float, ...]:
        return (-metrics.loss,)

    def compare(self, *, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> RowLosses:
        """Compares the mean losses of two models for the same examples. true: not needed."""
        del true
        return RowLosses(**signed_ranks(before, after))

    def compare_scored(self, *, before: Scored, after: Scored, rows: Conversations) -> RowLosses:
        """Compares two models on the same rows, with their answers to the same of them, if there are any."""
        losses = self.compare(before=before.predicted, after=after.predicted, true=after.predicted)
        if not after.answers:
            return losses
        first, second = (judge(scored.answers, _references(scored.answers, rows))[1] for scored in (before, after))
        return replace(losses, answers=compare_right(before=first, after=second))

    def settings_lines(self) -> list[str]:
        return []

    def answer(self, logits: torch.Tensor) -> str:
        """Returns what is most probable next. logits: [vocabulary]."""
        return f"Next token: {int(logits.argmax())}"

    def describe_model(self, *, pairs: bool) -> str:
        """Returns what kind of model it is, as a sentence of the model card begins."""
        del pairs
        return "A chat model" if self.form.form == "chat" else "A language model"

    def example(self, *, pairs: bool) -> str:
        del pairs
        if self.form.form != "chat":
            return json.dumps(self.form.text(_PROMPT), ensure_ascii=False)
        messages = [{"role": turn.role, "content": turn.content} for turn in self.form.turns(_PROMPT)]
        return json.dumps(messages, ensure_ascii=False)

    def page_view(self, run: FinishedRun) -> dict[str, Any]:
        return page_view(run)


def _references(answers: Sequence[Answer], rows: Conversations) -> list[str]:
    return [rows.rows[answer.row].reference or "" for answer in answers]
